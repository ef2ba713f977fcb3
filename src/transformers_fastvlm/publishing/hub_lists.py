# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The licences and tasks that the Hub knows: from the Hub, or as they were when this was written."""

from dataclasses import dataclass

from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import get_session, hf_raise_for_status

SECONDS = 5.0


@dataclass(frozen=True)
class HubLists:
    """
    Args:
        licenses: identifiers of licences, as cards have them.
        pipeline_tags: tasks.
    """

    licenses: frozenset[str]
    pipeline_tags: frozenset[str]


BUNDLED = HubLists(
    licenses=frozenset(
        """
        apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
        bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
        cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
        cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
        cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
        eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c
        ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa
        unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1
        llama3.2 llama3.3 llama4 grok2-community gemma unknown other
        """.split()
    ),
    pipeline_tags=frozenset(
        """
        biology text-classification token-classification table-question-answering question-answering
        zero-shot-classification translation summarization feature-extraction text-generation text2text-generation
        fill-mask sentence-similarity text-to-speech text-to-audio automatic-speech-recognition audio-to-audio
        audio-classification audio-text-to-text voice-activity-detection depth-estimation image-classification
        object-detection image-segmentation text-to-image image-to-text image-to-image image-to-video
        unconditional-image-generation video-classification reinforcement-learning robotics tabular-classification
        tabular-regression tabular-to-text table-to-text multiple-choice text-ranking text-retrieval
        time-series-forecasting text-to-video image-text-to-text visual-question-answering document-question-answering
        zero-shot-image-classification graph-ml mask-generation zero-shot-object-detection text-to-3d image-to-3d
        image-feature-extraction video-text-to-text keypoint-detection visual-document-retrieval any-to-any other
        """.split()
    ),
)


def hub_lists(endpoint: str) -> HubLists:
    """
    What the Hub lists, and what it did when this was written: a tag that no repository has is not in its list.

    Only the latter if the Hub does not answer within `SECONDS`, or is not to be asked (`HF_HUB_OFFLINE`).
    """
    try:
        response = get_session().get(f"{endpoint}/api/models-tags-by-type", timeout=SECONDS)
        hf_raise_for_status(response)
        tags = response.json()
        # Licences are tags of models as well, where they have a prefix.
        licenses, tasks = (
            frozenset(tag["id"].removeprefix("license:") for tag in tags[kind]) for kind in ("license", "pipeline_tag")
        )
    except (HTTPError, OSError, AttributeError, KeyError, TypeError, ValueError):
        return BUNDLED
    return HubLists(BUNDLED.licenses | licenses, BUNDLED.pipeline_tags | tasks)
