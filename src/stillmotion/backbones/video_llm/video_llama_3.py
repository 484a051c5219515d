"""VideoLLaMA3: transformers' VideoLlama3."""

from transformers import VideoLlama3ForConditionalGeneration, VideoLlama3Processor

from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM


class VideoLlama3(TransformersVideoLLM):
    """VideoLLaMA3."""

    family = "video_llama_3"
    model_class = VideoLlama3ForConditionalGeneration
    processor_class = VideoLlama3Processor


load = VideoLlama3.open
