"""How much a model computes."""

from collections.abc import Callable


def count_flops(call: Callable[[], object]) -> int:
    """Count the floating-point operations of a call, a multiply-add as two.

    Counted are convolutions and matrix products, those inside of ``einsum``
    and attention included; norms, activations and the like are not.

    Args:
        call (Callable): What to count.

    Returns:
        int: The operations.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # torch's counter sees what is executed, so that einsum arrives as the
    # products it is made of. It does not know the CPU's fused attention,
    # which the plain one replaces here: its two products are counted on any
    # device. mmengine's get_model_complexity_info traces the model instead
    # and counts attention as nothing, on any device.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops()
