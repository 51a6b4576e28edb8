"""Details that one module alone knows: weight names, control tokens, constants, devices."""

from __future__ import annotations

import ast
import re

from tests.architecture.source import Module, modules

LAYOUTS = "checkpoints/layouts.py"
PROMPT = "text/prompt.py"
MEL = "audio/features.py"
ATTENTION = "models/attention.py"
DEVICES = "backends/devices.py"
CUDA_GRAPHS = "backends/cuda_graphs.py"

FOREIGN = re.compile(
    r"audio_tower|multi_modal_projector|language_model\.|self_attn|[qkvo]_proj\b|gate_proj|up_proj"
    r"|down_proj|conv2d[123]|conv_out|ln_post|lm_head|embed_tokens|input_layernorm"
    r"|post_attention_layernorm|final_layer_norm|thinker\.|\bfc[12]\b"
)
"""Parts of weight names of the published layouts."""

CONTROL = re.compile(r"<\|[a-z_]+\|>|<asr_text>|<timestamp>")


def _only_in(owner: str, module: Module, pattern: re.Pattern[str]) -> None:
    found = [f"{line}: {text!r}" for line, text in module.strings() if pattern.search(text)]
    if module.path == owner:
        assert found, f"{owner} is said to own {pattern.pattern}, and does not mention it"
    else:
        assert not found, f"{module.path} mentions what only {owner} may: {found}"


def test_foreign_weight_names_only_in_layouts() -> None:
    for module in modules():
        _only_in(LAYOUTS, module, FOREIGN)


def test_chat_turns_only_in_the_prompt() -> None:
    """Only config keys that name a token's id (`audio_start_token_id`) spell tokens elsewhere."""
    for module in modules():
        if module.path == "checkpoints/config_writer.py":
            _only_in(PROMPT, module, re.compile(r"<\|im_start\|>|<asr_text>|assistant"))
        else:
            _only_in(PROMPT, module, CONTROL)


def _numbers(tree: ast.AST) -> set[float]:
    return {
        float(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, (int, float))
        and not isinstance(node.value, bool)
    }


def test_mel_constants_only_in_mel() -> None:
    """No other module uses the floor, the scales or the spectrum; hop and window are named."""
    for module in modules():
        if module.path == MEL:
            assert {1e-10, 2595.0, 700.0, 6.4, 1024.0} <= _numbers(module.tree)
            continue
        assert not {2595.0, 700.0, 6.4} & _numbers(module.tree), module.path
        for line, name in module.names():
            tail = name.rpartition(".")[2]
            assert tail not in {"hann_window", "stft", "mel_filters"}, (
                f"{module.path}:{line} {name}"
            )
        if module.room == "audio":
            # Rates and sizes are derived from SAMPLE_RATE where they are needed.
            assert not {16000.0, 160.0, 400.0, 8000.0} & _numbers(module.tree), module.path


def test_attention_kernels_only_in_attention() -> None:
    for module in modules():
        wanted = {"scaled_dot_product_attention", "sdpa_kernel", "SDPBackend"}
        used = {name.rpartition(".")[2] for _, name in module.names()} & wanted
        assert used == (wanted if module.path == ATTENTION else set()), module.path


def test_device_names_only_in_one_module() -> None:
    """Elsewhere a device is an argument, or the CPU where files are read, or "meta" (no memory).

    Annotations with torch.device are not calls, so they are free. One module more has calls of
    CUDA, and nothing else.
    """
    for module in modules():
        if module.path == DEVICES:
            assert any(name == "torch.cuda.is_available" for name, _ in module.calls())
            continue
        if module.path == CUDA_GRAPHS:
            assert any(name == "torch.cuda.CUDAGraph" for name, _ in module.calls())
            continue
        for line, name in module.names():
            hardware = re.match(r"torch\.(backends\.)?(cuda|mps|xpu|accelerator|cudnn)\b", name)
            assert not hardware, f"{module.path}:{line} uses {name}"
        for line, text in module.strings():
            assert text not in {"cuda", "mps"}, f"{module.path}:{line} names the device {text!r}"
        for name, call in module.calls():
            if name in {"torch.device", "device"}:
                given = [ast.unparse(argument) for argument in call.args]
                assert given in (["'cpu'"], ["'meta'"]), f"{module.path}:{call.lineno} {given}"


def test_pickle_is_not_used() -> None:
    for module in modules():
        for line, name in module.names():
            first = name.partition(".")[0]
            assert first not in {"pickle", "dill", "cloudpickle"}, f"{module.path}:{line}"
        for name, call in module.calls():
            if name == "torch.load":
                given = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert given.get("weights_only") == "True", f"{module.path}:{call.lineno}"


def test_print_is_not_used() -> None:
    """Commands write with typer or to a stream; the rest returns values."""
    for module in modules():
        for name, call in module.calls():
            assert name != "print", f"{module.path}:{call.lineno}"
