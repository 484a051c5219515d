"""Names of the files that tell which family a model folder is of: known without importing the family."""

OPEN_CLIP = "open_clip_config.json"
STAN = "stan.json"
CLIP4CLIP = "clip4clip.json"
XCLIP = "xclip.json"
