"""Class names and prompt templates of zero-shot protocols, as data files in one format."""

from mmmaskclip.datasets.prompts.class_prompts import ClassPrompts, NamesClasses
from mmmaskclip.datasets.prompts.prompt_files import (
    PromptSet,
    as_classes,
    check_templates,
    load_prompts,
    refuse_string,
)

__all__ = [
    'ClassPrompts',
    'NamesClasses',
    'PromptSet',
    'as_classes',
    'check_templates',
    'load_prompts',
    'refuse_string',
]
