"""What is a model of the closed list, as numbers: layout, start, step, file and hash?"""

from __future__ import annotations

from schemas.models.final import final_safetensors as final_safetensors
from schemas.models.final import model_hash as model_hash
from schemas.models.final import read_final as read_final
from schemas.models.layouts import layout as layout
from schemas.models.layouts import parameter_count as parameter_count
from schemas.models.layouts import split_tensors as split_tensors
from schemas.models.optimiser import OptimiserState as OptimiserState
from schemas.models.optimiser import apply_step as apply_step
from schemas.models.optimiser import apply_sum as apply_sum
from schemas.models.optimiser import final_parameters as final_parameters
from schemas.models.optimiser import initial_state as initial_state
from schemas.models.optimiser import state_hash as state_hash
from schemas.models.tensors import TensorSpec as TensorSpec
from schemas.models.weights import from_safetensors as from_safetensors
from schemas.models.weights import initial_parameters as initial_parameters
from schemas.models.weights import to_safetensors as to_safetensors
from schemas.models.weights import weights_from_seed as weights_from_seed
