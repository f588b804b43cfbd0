"""Which joints a model takes, and how those of a recording become them."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmengine.config import ConfigDict

from ..layouts import LAYOUTS, SkeletonLayout, get_layout, joint_indices
from .recordings import Recording


@dataclass(frozen=True)
class ModelJoints:
    """What is known of the joints that a model takes.

    Attributes:
        layout (SkeletonLayout, optional): Their layout.
        stored (SkeletonLayout, optional): That of recordings which do not
            tell theirs: of the config's own data set, or, of a union, the
            model's.
        num_joints (int, optional): How many they are.
    """

    layout: SkeletonLayout | None
    stored: SkeletonLayout | None
    num_joints: int | None

    @classmethod
    def of_config(
        cls, cfg: ConfigDict, pipeline: Sequence[dict]
    ) -> 'ModelJoints':
        """Read a config: its ``MapJoints``, ``model_layout`` or graph.

        Args:
            cfg (ConfigDict): The whole config. :func:`mamp_mmaction.config
                .use_dataset` writes ``model_layout`` into it.
            pipeline (Sequence[dict]): Its test pipeline.

        Returns:
            ModelJoints: What it says.
        """
        backbone = cfg.model.get('backbone', {})
        graph = backbone.get('graph_cfg', {}).get('layout')
        name, stored = cfg.get('model_layout'), None
        for step in pipeline:
            if step['type'] == 'MapJoints':
                name, stored = step['target'], get_layout(step['source'])
        if 'datasets' in cfg.test_dataloader.dataset:
            stored = None
        if name is None and graph is not None:
            name = _layout_of_graph(graph)
        if name is not None:
            layout = get_layout(name)
            return cls(layout, stored or layout, layout.num_joints)
        if isinstance(graph, dict):
            return cls(None, None, graph['num_node'])
        count = backbone.get('num_joints')
        if any(step['type'] == 'GeneratePoseTarget' for step in pipeline):
            count = backbone.get('in_channels')  # of PoseC3D one is a joint
        return cls(None, None, count)

    def mapping(self, recording: Recording) -> tuple | None:
        """Say which layouts joints are mapped between.

        Args:
            recording (Recording): The recording.

        Returns:
            tuple[str, str]: Names of its layout and the model's; None where
            nothing is to be mapped, or a layout is not known.

        Raises:
            ValueError: The joints are not the model's and cannot be mapped.
        """
        joints = recording.sample['keypoint'].shape[2]
        source, target = self.stored, self.layout
        if recording.layout is not None:
            source = get_layout(recording.layout)
            if joints != source.num_joints:
                raise ValueError(
                    f'{recording.where} has {joints} joints, but its layout '
                    f'{source.name!r} has {source.num_joints}.'
                )
        if source is not None and joints != source.num_joints:
            raise ValueError(self._explain(recording.where, joints))
        if target is None and joints != (self.num_joints or joints):
            raise ValueError(self._explain(recording.where, joints))
        if source is None or target is None or source == target:
            return None
        try:
            joint_indices(source.name, target.name)
        except ValueError as error:
            raise ValueError(
                f'{recording.where} cannot be given to a model of layout '
                f'{target.name!r} by MapJoints: {error}'
            ) from None
        return source.name, target.name

    def _explain(self, where: str, joints: int) -> str:
        """Say what is wrong with a number of joints, and what would help."""
        wanted = self.stored
        told = f'{where} has {joints} joints, but the model takes '
        if wanted is None:
            return f"{told}{self.num_joints}, of a layout it doesn't tell."
        told += f'{wanted.num_joints} (layout {wanted.name!r}). '
        same = [v for v in LAYOUTS.values() if v.num_joints == joints]
        same = {layout.name: layout for layout in same}
        if not same:
            return (
                f'{told}No known layout has {joints} joints: if yours has '
                "all of the model's, register it in a file and give it by "
                '--layout FILE.py; MapJoints then takes them.'
            )
        able = [name for name in same if _maps(name, self.layout)]
        names = ' and '.join(map(repr, able or same))
        if able:
            return (
                f'{told}Layout {names} has them among its {joints}: give it '
                'by --layout, and MapJoints takes them.'
            )
        return (
            f'{told}Known with {joints} joints: {names}, which lacks some of '
            "the model's, so that MapJoints cannot help."
        )


def _maps(source: str, target: SkeletonLayout | None) -> bool:
    try:
        return target is not None and bool(joint_indices(source, target.name))
    except ValueError:
        return False


def _layout_of_graph(graph: str | dict) -> str | None:
    """Name of the layout whose graph is given, as the toolbox writes it."""
    if isinstance(graph, str):
        return graph if graph in LAYOUTS else None
    for name, layout in LAYOUTS.items():
        own = layout.graph()
        if (graph['num_node'], graph['center']) == (
            own['num_node'],
            own['center'],
        ) and set(map(tuple, graph['inward'])) == set(own['inward']):
            return name
    return None
