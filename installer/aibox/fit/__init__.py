"""Whether a model fits on GPUs: the arithmetic of vLLM, done before anything is bought.

Pure: from the fields of a model's config.json, the bytes of its weights, the memory that cards
report and the engine's flags to blocks of context, requests at once and a verdict. What nobody
can compute (activations, captured graphs) is a range with its source. `answer` puts it together.
"""
