"""The vendor's job tags that we know of; those without an operation here answer 501.

Wire: Cloud Infinite API documentation and the four SDK repositories (structs, demos, tests).
"""

from __future__ import annotations

from collections.abc import Mapping

KNOWN_TAGS: Mapping[str, str] = {
    tag: area
    for area, tags in {
        "Image Processing": "ImageInspect PicProcess PosterProduction",
        "Media Processing": (
            "Transcode TranscodePro HighSpeedHd Animation Snapshot SmartCover Concat Segment StreamExtract MediaInfo "
            "VideoMontage VideoProcess VideoEnhance SuperResolution SDRtoHDR DigitalWatermark ExtractDigitalWatermark "
            "VideoTag QualityEstimate SplitVideoParts FillConcat VideoSynthesis GeneratePlayList DNA"
        ),
        "AI Content Recognition": (
            "ImageOCR ImageLicenseRec VideoTargetRec SegmentVideoBody Translation WordsGeneralize"
        ),
        "Smart Audio": "SoundHound VocalScore VoiceSeparate NoiseReduction Tts SpeechRecognition",
        "Document Processing": "DocProcess DocWatermark DocAIGCMetadata",
        "File Processing": "FileHashCode FileUncompress FileCompress",
    }.items()
    for tag in tags.split()
}
"""Tag to product area (the names of the vendor's navigation)."""
