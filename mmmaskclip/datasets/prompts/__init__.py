"""Class names and prompt templates of zero-shot protocols, as data files in one format."""

from mmmaskclip.datasets.prompts.prompt_files import PromptSet, as_classes, check_templates, load_prompts

__all__ = ['PromptSet', 'as_classes', 'check_templates', 'load_prompts']
