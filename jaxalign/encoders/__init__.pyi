from .encoders import Encoders as Encoders
from .pretrained import load_encoders as load_encoders
from .pretrained import untrained_encoders as untrained_encoders
