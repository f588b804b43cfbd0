from .latent_prediction_head import LatentPredictionHead
from .linear_probe_head import LinearProbeHead
from .mamp import MAMP
from .mamp_decoder import MAMPDecoder
from .mamp_finetune_head import MAMPFinetuneHead
from .mamp_transformer import MAMPTransformer
from .motion_prediction_head import MotionPredictionHead
from .recognizer_mamp import RecognizerMAMP
from .skeleton_data_preprocessor import SkeletonDataPreprocessor
from .toolbox_additions import extend_toolbox

extend_toolbox()

__all__ = [
    'MAMP',
    'LatentPredictionHead',
    'LinearProbeHead',
    'MAMPDecoder',
    'MAMPFinetuneHead',
    'MAMPTransformer',
    'MotionPredictionHead',
    'RecognizerMAMP',
    'SkeletonDataPreprocessor',
]
