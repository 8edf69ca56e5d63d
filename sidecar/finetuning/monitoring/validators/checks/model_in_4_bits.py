"""A base model in the 4 bits that an adapter was trained on; used by model_process."""

from typing import Any

from finetuning.monitoring.validators.checks.probe import FourBits, ProbeRequest


def load_in_4_bits(request: ProbeRequest, wanted: FourBits) -> Any:
    """Rounded as in the training, and computed with in 32 bit: only what is stored is the same.

    Raises whatever bitsandbytes and transformers raise where this machine has no 4 bits.
    """
    import torch  # noqa: PLC0415 - this process exists to load it
    from bitsandbytes.nn import Linear4bit  # noqa: PLC0415 - takes a second
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig  # noqa: PLC0415

    model = AutoModelForCausalLM.from_pretrained(
        request.base,
        revision=request.revision or "main",
        dtype=getattr(torch, wanted.weights),
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_compute_dtype=torch.float32,
            bnb_4bit_quant_type=wanted.quant_type,
            bnb_4bit_use_double_quant=wanted.double_quant,
        ),
        device_map={"": 0 if torch.cuda.is_available() else "cpu"},
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=request.base_is_local,
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # Else a CPU with AVX512-BF16 repacks the weights, and rounds once more.
            module.support_avx512bf16_for_cpu = False
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.float()
    return model.eval()
