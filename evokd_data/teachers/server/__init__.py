"""A teacher behind HTTP: any server that speaks OpenAI's chat completions, such as `vllm serve` and SGLang."""
