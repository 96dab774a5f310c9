"""What can a hospital do about a file that was set aside?"""

from __future__ import annotations

from typing import Final

from schemas.errors import ErrorCode

ADVICE: Final = {
    ErrorCode.FILE_NOT_DICOM: "Nothing, if it is a list, a viewer or a document. Only DICOM files "
    "are cleaned.",
    ErrorCode.FILE_EMPTY: "Export the file again.",
    ErrorCode.FILE_UNREADABLE: "Check that you may read it. Links, pipes and devices are never "
    "followed; a file that changed while it was read is tried again by the next run.",
    ErrorCode.FILE_TOO_LARGE: "Split the object, or leave it out.",
    ErrorCode.DICOM_UNREADABLE: "The file is damaged or cut off. Export it again.",
    ErrorCode.DICOM_CLASS_UNKNOWN: "The profile does not accept this kind of object. If the study "
    "needs it, use a profile that does.",
    ErrorCode.DICOM_CLASS_PRIVATE: "Only its maker knows what this kind of object holds. Export it "
    "as a standard object.",
    ErrorCode.DICOM_CLASS_MISSING: "Export it again; without its SOP Class nothing can be decided.",
    ErrorCode.DICOM_DIRECTORY: "Nothing: the images it lists are cleaned one by one. "
    "Who needs one makes it anew from the clean files.",
    ErrorCode.DICOM_SYNTAX_UNKNOWN: "Export it in a common transfer syntax, for example Explicit "
    "VR Little Endian.",
    ErrorCode.DICOM_PIXELS_UNSUPPORTED: "The study cannot use pixels of this kind.",
    ErrorCode.DICOM_PIXELS_UNDECODABLE: "The pixels cannot be looked at, so text in them cannot be "
    "found. Export the image again, uncompressed.",
    ErrorCode.DICOM_BURNED_IN: "The image says that identity is burned into its pixels. Use a "
    "profile with clean-pixel-data. A picture of a slide's label is never released.",
    ErrorCode.DICOM_FACE_HEAD: "There is no defacing here. Leave it out, or let the data steward "
    "decide and run again with --accept-faces REASON.",
    ErrorCode.DICOM_FACE_UNSTATED: "It may be a head, and there is no defacing here. Let the data "
    "steward look and run again with --accept-faces REASON.",
    ErrorCode.TEXT_DETECTION_MISSING: "Install text detection (pip install "
    "'cohortium[text-detection]') and run the same command again.",
    ErrorCode.DICOM_REDACTION_TOO_LARGE: "So much of the image holds text that it is likely a "
    "screen shot or a scanned page. Look at it; leave it out.",
    ErrorCode.DICOM_OUTPUT_INVALID: "The clean copy failed its check and was thrown away. Please "
    "report the kind of object to us.",
    ErrorCode.IDENTIFIER_LEFT: "A value that had to go was still in the clean copy, which was "
    "thrown away. Please report the kind of object to us.",
    ErrorCode.PATIENT_MISSING: "Correct the record at its source: it names no patient.",
    ErrorCode.INTERNAL_PROCESS_ENDED: "The process working on it crashed, ran out of memory, or "
    "took too long. The next run tries again; with fewer --workers each has more memory.",
}


def what_to_do(code: ErrorCode) -> str:
    """Give one or two plain sentences for a hospital's IT."""
    return ADVICE.get(code, "Look at the file in the input folder.")
