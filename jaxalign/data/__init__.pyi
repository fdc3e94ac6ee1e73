from .catalog import dataset_info as dataset_info
from .catalog import load_dataset as load_dataset
from .catalog import split_classes as split_classes
from .ordered import ordered_batches as ordered_batches
from .pipeline import image_text_batches as image_text_batches
from .planted import PlantedPairs as PlantedPairs
from .planted import planted_pairs as planted_pairs
from .planted import random_rotation as random_rotation
