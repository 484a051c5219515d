"""How much of what comes from outside is taken: beyond, memory and time would be another's to spend.

YAML has its own bounds, in yaml_files.py.
"""

MAX_DURATION_S = 7 * 24 * 3600.0
"""Seconds of a video: a week. A container of 23 KB can say 20 million seconds, and would have 10 million clips."""
LEAST_CLIP_LENGTH_S = 0.1
"""Of the clips of moment retrieval: a video of a week has six million of them."""
MAX_SALIENCY_VALUES = 2**28
"""Clips × annotators that a submission is scored on, 2 GiB: QVHighlights has 0.4 million of them."""
MAX_MEMBER_BYTES = 2**28
"""Of a file of annotations within a zip, unpacked: 256 MiB. The captions of MSR-VTT take 20 MB."""
