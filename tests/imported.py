"""What a process of ``cai`` has imported when it ends, and the libraries that take long."""

MODELS = {"torch", "vllm", "transformers", "trl", "peft", "accelerate", "datasets", "inspect_ai", "ray"}
STATISTICS = {"scipy.stats", "sklearn", "pandas"}  # a second or two
AT_EXIT = """
import atexit, sys
atexit.register(lambda: print("MODULES", *sorted(sys.modules)))
from cai_assets.cli import app
app(prog_name="cai")
"""
