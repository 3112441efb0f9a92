"""How a network is trained: loss, optimizer, schedule, augmentations, as the `train` section states them.

`yaml_form` is the same as a run's folder keeps it.
"""

from cnnc.recipe.augmentations import Augment as Augment
from cnnc.recipe.augmentations import AutoAugment as AutoAugment
from cnnc.recipe.augmentations import ColorJitter as ColorJitter
from cnnc.recipe.augmentations import Cutmix as Cutmix
from cnnc.recipe.augmentations import Cutout as Cutout
from cnnc.recipe.augmentations import Flip as Flip
from cnnc.recipe.augmentations import Mix as Mix
from cnnc.recipe.augmentations import Mixup as Mixup
from cnnc.recipe.augmentations import PadCrop as PadCrop
from cnnc.recipe.augmentations import RandAugment as RandAugment
from cnnc.recipe.augmentations import RandomResizedCrop as RandomResizedCrop
from cnnc.recipe.entry import Entry as Entry
from cnnc.recipe.entry import OutOfRange as OutOfRange
from cnnc.recipe.losses import BinaryCrossEntropy as BinaryCrossEntropy
from cnnc.recipe.losses import CrossEntropy as CrossEntropy
from cnnc.recipe.losses import Loss as Loss
from cnnc.recipe.losses import MeanSquaredError as MeanSquaredError
from cnnc.recipe.optimizers import Adam as Adam
from cnnc.recipe.optimizers import AdamW as AdamW
from cnnc.recipe.optimizers import Lars as Lars
from cnnc.recipe.optimizers import Lion as Lion
from cnnc.recipe.optimizers import Optimizer as Optimizer
from cnnc.recipe.optimizers import RmsProp as RmsProp
from cnnc.recipe.optimizers import Sgd as Sgd
from cnnc.recipe.schedules import Constant as Constant
from cnnc.recipe.schedules import Cosine as Cosine
from cnnc.recipe.schedules import Exponential as Exponential
from cnnc.recipe.schedules import Linear as Linear
from cnnc.recipe.schedules import OneCycle as OneCycle
from cnnc.recipe.schedules import Schedule as Schedule
from cnnc.recipe.schedules import Step as Step
from cnnc.recipe.schedules import Warmed as Warmed
from cnnc.recipe.settings import SETTINGS as SETTINGS
from cnnc.recipe.settings import Recipe as Recipe
from cnnc.recipe.settings import Setting as Setting
