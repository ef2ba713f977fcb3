# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The original's prompt as chat template."""

# The original's `qwen_2` conversation. An image stands on a line of its own; text is taken as it is. Without a system
# message there is the original's default one, with an empty one there is none.
CHAT_TEMPLATE = """\
{%- macro render(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif content -%}
        {%- set state = namespace(text='') -%}
        {%- for part in content -%}
            {%- if part.type in ['image', 'image_url'] -%}
                {%- if state.text and state.text[-1] != '\\n' -%}
                    {%- set state.text = state.text + '\\n' -%}
                {%- endif -%}
                {%- set state.text = state.text + '<image>\\n' -%}
            {%- elif part.type == 'text' -%}
                {%- set state.text = state.text + part.text -%}
            {%- else -%}
                {{- raise_exception('FastVLM takes text and images, not ' ~ part.type ~ '.') -}}
            {%- endif -%}
        {%- endfor -%}
        {{- state.text -}}
    {%- endif -%}
{%- endmacro -%}
{%- if tools -%}
    {{- raise_exception("FastVLM's chat template takes no tools.") -}}
{%- endif -%}
{%- if not messages or messages[0].role != 'system' -%}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\\n' -}}
        {%- generation -%}
            {{- render(message.content) + '<|im_end|>' -}}
        {%- endgeneration -%}
        {{- '\\n' -}}
    {%- elif message.role == 'user' or (message.role == 'system' and render(message.content)) -%}
        {{- '<|im_start|>' + message.role + '\\n' + render(message.content) + '<|im_end|>\\n' -}}
    {%- elif message.role != 'system' -%}
        {{- raise_exception("FastVLM knows the roles system, user and assistant, not '" ~ message.role ~ "'.") -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
