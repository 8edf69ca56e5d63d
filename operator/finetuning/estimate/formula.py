"""The memory of a run at its peak, by what the trainer allocates.

Counted are the tensors that autograd keeps, as the trainer's own forward pass makes them; tests
compare them with those that torch really saves. Rows are taken as long as maxSeqLength allows and
as trained in full, so that data cannot make it more.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from finetuning.api.hyperparameters import (
    ALL_LINEAR,
    Hyperparameters,
    LoraConfig,
    Method,
    Objective,
    Precision,
    QuantizationConfig,
)
from finetuning.estimate.shape import Linear, Shape

LOSS_ROWS = 2048
"""Tokens whose loss the trainer computes at once in 32 bit."""

_FLOAT = 4
_ADAMW = 2 * _FLOAT
"""Two moments in 32 bit."""
_BLOCK, _BLOCKS = 64, 256
"""4-bit weights: values that share a scale, and scales that share one with double quantisation."""


@dataclass(frozen=True)
class Job:
    """What of a job its memory depends on."""

    method: Method
    hyperparameters: Hyperparameters
    lora: LoraConfig
    quantization: QuantizationConfig
    processes: int = 1
    """That train together, each with a whole copy of the model, or with a part of it by fsdp."""

    @property
    def shards(self) -> int:
        """Parts that weights, gradients and the optimizer's state are in, one on each GPU."""
        return self.processes if self.hyperparameters.fsdp else 1

    @property
    def keeps_gradients(self) -> bool:
        """Over several forward passes, or in the buckets that travel between processes."""
        buckets = self.processes > self.shards
        return buckets or self.hyperparameters.gradient_accumulation_steps > 1

    @property
    def compute(self) -> int:
        """Bytes of a number in the forward pass."""
        return _FLOAT if self.hyperparameters.precision is Precision.FP32 else 2

    @property
    def rows(self) -> int:
        """Sequences of one forward pass; a pair is two."""
        pairs = self.hyperparameters.objective is Objective.DPO
        return self.hyperparameters.batch_size * (2 if pairs else 1)

    @property
    def tokens(self) -> int:
        return self.rows * self.hyperparameters.max_seq_length

    def masked(self, shape: Shape) -> bool:
        """Whether rows of different lengths, or several in one, need a mask of their own."""
        if self.apart:
            return shape.window is not None and shape.window < self.hyperparameters.max_seq_length
        return self.rows > 1 or self.hyperparameters.packing

    @property
    def apart(self) -> bool:
        """Whether attention is computed for each packed row by itself, of copies of its tokens."""
        return self.hyperparameters.packing and not self.hyperparameters.torch_compile

    @property
    def residual(self) -> int:
        """Bytes of a number between the layers: weights that are trained are in 32 bit.

        Those that are put together from shards come in the format that they compute in.
        """
        return _FLOAT if self.method is Method.FULL and self.shards == 1 else self.compute


@dataclass(frozen=True)
class Host:
    """Where it runs: a GPU's dropout keeps a byte per number, the CPU's a number."""

    gpu: bool = True
    mapped: int = 0
    """Bytes of the model's file that stay mapped on a CPU beside the 4-bit weights made of it."""
    leads: bool = True
    """Whether it is the process that loads and saves."""


@dataclass(frozen=True)
class Parts:
    """Bytes of each kind at the moment when their sum is largest."""

    moment: str
    weights: int
    reference: int
    trained: int
    optimizer: int
    gradients: int
    casts: int
    activations: int
    loss: int
    gathered: int = 0
    """Layers put together from their shards, and their gradients on the way to them."""
    checkpoint: int = 0
    """The copy that is written beside the training; on a CPU it takes the same memory. Of
    a model in shards also the whole of it, before it is shared out and when it is the result."""

    @property
    def total(self) -> int:
        return sum(value for value in vars(self).values() if isinstance(value, int))


def peak(shape: Shape, job: Job, host: Host) -> Parts:
    """The largest of the moments of a step."""
    return max(_moments(shape, job, host), key=lambda parts: parts.total)


def _moments(shape: Shape, job: Job, host: Host) -> Iterator[Parts]:
    """The loss, with everything saved; the head's gradient; the first layer's, the last to come.

    Between the last two, activations go as steadily as gradients come.
    """
    trained = trained_parameters(shape, job)
    settings = job.hyperparameters
    kept = job.keeps_gradients
    parts = job.shards
    gradients = _FLOAT * trained // parts
    head = _FLOAT * _head_gradient(shape, job) // parts
    layer = layer_activations(shape, job, host)
    saved = saved_activations(shape, job, host)
    fixed = {
        "weights": base_weights(shape, job) // parts + (host.mapped if in_four_bit(job) else 0),
        "reference": _reference(shape, job) // parts,
        "trained": 0 if job.method is Method.FULL else _FLOAT * trained // parts,
        "optimizer": _ADAMW * trained // parts,
    }
    forward, backward = gathered(shape, job) if parts > 1 else (0, 0)
    casts = _casts(shape, job)
    working = _working(shape, job)
    again = layer if settings.gradient_checkpointing else 0
    yield Parts(
        moment="loss",
        gradients=gradients if kept else 0,
        casts=casts,
        activations=saved,
        loss=loss_bytes(shape, job),
        gathered=forward,
        **fixed,
    )
    yield Parts(
        moment="backward pass, last layer",
        gradients=gradients if kept else head,
        casts=0 if settings.gradient_checkpointing else casts,
        activations=saved + again + working,
        loss=0,
        gathered=backward,
        **fixed,
    )
    yield Parts(
        moment="backward pass, first layer",
        gradients=gradients,
        casts=0,
        activations=layer + working,
        loss=0,
        gathered=backward,
        **fixed,
    )
    if host.leads and not host.gpu:
        rest = dict.fromkeys(("gradients", "casts", "activations", "loss"), 0)
        yield Parts(moment="checkpoint", checkpoint=of_the_host(shape, job), **rest, **fixed)


def gathered(shape: Shape, job: Job) -> tuple[int, int]:
    """What comes and goes beside the shards, in the forward and in the backward pass.

    Embeddings and head are there from the first layer to the last and back. Of the layers there
    is the one that computes, the one that comes, and the buffer that it comes in. Gradients travel
    in 32 bit.
    """
    outside = _trained_outside(shape, job)
    around = shape.embedding + shape.head + (0 if job.method is Method.FULL else outside)
    within = trained_parameters(shape, job) - outside
    others = 0 if job.method is Method.FULL else within
    layer = (shape.in_linears + others) // shape.layers
    forward = job.compute * (around + 3 * layer)
    return forward, forward + job.compute * outside + _FLOAT * within // shape.layers


def of_the_host(shape: Shape, job: Job) -> int:
    """Most of the host's memory that the first process takes beside a GPU's."""
    whole = 0
    if job.shards > 1:
        others = 0 if job.method is Method.FULL else _FLOAT * trained_parameters(shape, job)
        whole = base_weights(shape, job) + others
    return max(whole, checkpoint_copy(shape, job))


def checkpoint_copy(shape: Shape, job: Job) -> int:
    """Host memory while a checkpoint is written: the trained weights and AdamW's moments."""
    return (_FLOAT + _ADAMW) * trained_parameters(shape, job)


def base_weights(shape: Shape, job: Job) -> int:
    """The model as it is loaded: 32 bit where it is trained, else as it computes, or in 4 bit."""
    if job.method is Method.FULL:
        return _FLOAT * shape.parameters
    if in_four_bit(job):
        others = shape.parameters - shape.in_linears
        return int(shape.in_linears * four_bit(job.quantization)) + job.compute * others
    return job.compute * shape.parameters


def in_four_bit(job: Job) -> bool:
    return job.method is Method.QLORA and job.quantization.load_in_4bit


def four_bit(quantization: QuantizationConfig) -> float:
    """Bytes of a 4-bit weight with its share of the scales."""
    scale: float = _FLOAT
    if quantization.bnb_4bit_use_double_quant:
        scale = 1 + _FLOAT / _BLOCKS
    return 0.5 + scale / _BLOCK


def adapted(shape: Shape, job: Job) -> list[Linear]:
    """The linear layers of one layer that get an adapter."""
    if job.method is Method.FULL:
        return []
    wish = {name.rsplit(".", maxsplit=1)[-1] for name in job.lora.target_modules}
    return [each for each in shape.linears if ALL_LINEAR in wish or each.name in wish]


def trained_parameters(shape: Shape, job: Job) -> int:
    """All, or those of the adapter and of the layers trained beside it."""
    if job.method is Method.FULL:
        return shape.parameters
    lora = job.lora
    directions = 1 if lora.use_dora else 0
    adapters = sum(
        lora.r * (each.fan_in + each.fan_out) + directions * each.fan_out
        for each in adapted(shape, job)
    )
    whole = _whole_modules(job)
    linears = sum(each.parameters for each in shape.linears if each.name in whole)
    return shape.layers * (adapters + linears) + _trained_outside(shape, job)


def _whole_modules(job: Job) -> set[str]:
    """Those that are trained in full beside the adapter."""
    return {name.rsplit(".", maxsplit=1)[-1] for name in job.lora.modules_to_save}


def _trained_outside(shape: Shape, job: Job) -> int:
    """Parameters of embeddings and head that are trained."""
    if job.method is Method.FULL:
        return shape.embedding + shape.head
    outside = len(_whole_modules(job) & {"lm_head", "embed_tokens"})
    return shape.embedding * (min(outside, 1) if shape.tied else outside)


def _reference(shape: Shape, job: Job) -> int:
    """DPO compares with the start: a frozen copy, unless the adapter can be left out."""
    dpo = job.hyperparameters.objective is Objective.DPO
    return _FLOAT * shape.parameters if dpo and job.method is Method.FULL else 0


def _casts(shape: Shape, job: Job) -> int:
    """Autocast's copies of the trained matrices in 16 bit; shards are gathered in it."""
    if job.compute == _FLOAT or job.shards > 1:
        return 0
    if job.method is Method.FULL:
        return job.compute * (shape.in_linears + shape.embedding)
    return job.compute * trained_parameters(shape, job)


def _head_gradient(shape: Shape, job: Job) -> int:
    return shape.embedding if job.method is Method.FULL else 0


def saved_activations(shape: Shape, job: Job, host: Host) -> int:
    """What all layers keep for the backward pass: everything, or their inputs alone."""
    around = job.tokens * shape.hidden * (_FLOAT + job.compute)
    if job.hyperparameters.gradient_checkpointing:
        return around + shape.layers * job.tokens * shape.hidden * job.residual
    return around + shape.layers * layer_activations(shape, job, host)


def layer_activations(shape: Shape, job: Job, host: Host) -> int:
    """What one layer keeps for its backward pass."""
    per_token = (
        _norms(shape, job)
        + _attention(shape, job)
        + job.compute * 3 * shape.intermediate  # gate, its activation, up
        + sum(_inputs(shape, job, host))
    )
    mask = job.hyperparameters.max_seq_length * job.compute if job.masked(shape) else 0
    return int(job.tokens * (per_token + mask))


def _norms(shape: Shape, job: Job) -> int:
    """Two of them, in 32 bit: their input, and their output where their weight is trained."""
    each = 2 if job.method is Method.FULL else 1
    return 2 * (each * shape.hidden + 1) * _FLOAT


def _attention(shape: Shape, job: Job) -> int:
    """Queries, keys, values and output; keys are repeated for each query where a mask is given."""
    masked = job.masked(shape)
    keys = shape.queries if masked else shape.keys
    # Values that are a part of one tensor with queries and keys keep all of it; of copies there is
    # the output twice, row by row and as the batch has it.
    beside = shape.queries + shape.keys if shape.fused and not masked else 0
    beside = shape.queries if job.apart and not masked else beside
    kept = job.compute * (2 * shape.queries + 2 * keys + beside) + _FLOAT * shape.heads
    return kept + _head_norms(shape, job)


def _head_norms(shape: Shape, job: Job) -> int:
    """Those of queries and keys, as `_norms`; their output is in the format that it computes in."""
    if not shape.head_norms:
        return 0
    heads = shape.heads + shape.heads * shape.keys // shape.queries
    each = _FLOAT + (job.compute if job.method is Method.FULL else 0)
    return each * (shape.queries + shape.keys) + _FLOAT * heads


def _inputs(shape: Shape, job: Job, host: Host) -> Iterator[float]:
    """Inputs of the layers that are trained, bytes per token."""
    if job.method is Method.FULL:
        yield from _shared(shape.linears, job, own_output=shape.fused)
        return
    targets = adapted(shape, job)
    yield job.compute * job.lora.r * len(targets)
    if job.lora.lora_dropout:
        noise = 1 if host.gpu else _FLOAT
        yield sum(each.fan_in * (job.compute + noise) for each in targets)
    else:
        yield from _shared(tuple(targets), job, own_output=shape.fused or job.compute != _FLOAT)
    if job.lora.use_dora:
        yield 2 * job.compute * sum(each.fan_out for each in targets)


def _shared(linears: tuple[Linear, ...], job: Job, *, own_output: bool = False) -> Iterator[float]:
    """Autocast gives each its own copy in 16 bit; the attention's output is there already."""
    counted = set()
    for each in linears:
        if each.reads == "output" and not own_output:
            continue
        if job.compute == _FLOAT and each.reads in counted:
            continue
        counted.add(each.reads)
        yield job.compute * each.fan_in


def _working(shape: Shape, job: Job) -> int:
    """Gradients of one layer's activations on their way, and its weights out of 4 bit."""
    passing = job.tokens * job.compute * (2 * shape.intermediate + shape.hidden)
    if in_four_bit(job):
        passing += job.compute * max(each.parameters for each in shape.linears)
    return passing


def loss_bytes(shape: Shape, job: Job) -> int:
    """Logits, and their loss in 32 bit: all at once for pairs and short batches, else in pieces."""
    numbers = job.tokens * shape.vocabulary
    at_once = 3 * _FLOAT
    if job.tokens <= LOSS_ROWS or job.hyperparameters.objective is Objective.DPO:
        return numbers * max(2 * job.compute, at_once)
    # Beside one piece: the logits that are compared, and their gradient so far.
    of_a_piece = at_once + (job.compute if job.compute < _FLOAT else 0)
    return numbers * 2 * job.compute + LOSS_ROWS * shape.vocabulary * of_a_piece
