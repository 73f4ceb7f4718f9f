"""The parts of the teacher that runs as a vLLM engine: settings, the open engine, its thread and processes."""
