from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mamp_mmaction.config import check_settings


@HOOKS.register_module()
class CheckSettingsHook(Hook):
    """Ends a run whose config has settings that set nothing.

    Such as ``ann_file`` at the top level, by a child config or by
    ``--cfg-options``: see :func:`mamp_mmaction.config.check_settings`.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Check the config.

        Raises:
            ValueError: If there is such a setting; it is named.
        """
        check_settings(runner.cfg)
