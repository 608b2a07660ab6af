"""FFmpeg's errors in our words: what happened, what it means, what to do, no credentials."""

from __future__ import annotations

from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.redact import redact
from retain.pipeline.sources.common import denied, is_url, local_path, sniff


def explain(
    error: Exception,
    source: str,
    timeout: float,
    waited: float,
    reading: bool = False,
    head: bytes | None = None,
) -> SourceError:
    """The SourceError for what PyAV raised on ``source`` after ``waited`` seconds.

    FFmpeg's own text is never passed on: it repeats the address with user and password.
    ``reading`` tells a failure after opening from one while opening; ``head``: the first bytes of
    what is no plain file and was not read by FFmpeg's own means.
    """
    import av

    name = repr(redact(source))
    if head is None and is_url(source):
        # RTSP reports an expired timeout as invalid data; the clock knows better.
        if isinstance(error, av.error.ExitError | av.error.TimeoutError) or waited >= timeout:
            return _silent(name, timeout, reading)
        return _unreachable(error, name, reading)
    if head is None and isinstance(error, av.error.PermissionError):
        return denied(local_path(source))
    if isinstance(error, av.error.EOFError):
        return SourceError(
            SourceFault.EMPTY, f"{name} has a container's beginning but no frame in it."
        )
    if isinstance(error, av.error.DecoderNotFoundError):
        return SourceError(
            SourceFault.CODEC,
            f"{name} is coded in a way that this FFmpeg build cannot decode.",
            hint="Convert it, for example to H.264 in MP4.",
        )
    if head is None:
        with local_path(source).open("rb") as file:
            head = file.read(192)
    kind = sniff(head)
    if reading or kind == "video":
        return SourceError(
            SourceFault.BROKEN,
            f"{name} is a damaged or unfinished video: its index or its data cannot be read.",
            hint="The recording or copy was probably cut off; get the file again.",
        )
    is_kind = {"image": ", it is an image", "dicom": ", it is a DICOM file"}.get(kind, "")
    return SourceError(
        SourceFault.NOT_VIDEO,
        f"{name} is not a video that can be read{is_kind}.",
        hint="Check that this is the file you mean.",
    )


def _silent(name: str, timeout: float, reading: bool) -> SourceError:
    if reading:
        return SourceError(
            SourceFault.STALLED,
            f"{name} sent nothing for {timeout:g} s.",
            hint="Check the camera and the network, or raise the source option timeout.",
        )
    return SourceError(
        SourceFault.TIMEOUT,
        f"{name} gave no video within {timeout:g} s.",
        hint="Check the address, the camera and the network, or raise the source option timeout.",
    )


def _unreachable(error: Exception, name: str, reading: bool) -> SourceError:
    import av

    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return SourceError(
            SourceFault.AUTH,
            f"{name} refuses this user and password.",
            hint="Check them; characters such as @ : / in a password must be percent-encoded.",
        )
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceError(
            SourceFault.NOT_FOUND, f"The server knows no {name}.", hint="Check the path."
        )
    if isinstance(error, av.error.ProtocolNotFoundError):
        return SourceError(
            SourceFault.CODEC, f"{name} names a protocol that this FFmpeg build lacks."
        )
    if isinstance(error, av.error.InvalidDataError):
        return SourceError(
            SourceFault.BROKEN if reading else SourceFault.NOT_VIDEO,
            f"{name} answers, but what it sends is not a video that can be read.",
        )
    if reading:
        return SourceError(
            SourceFault.BROKEN, f"The connection to {name} broke off in the middle of the stream."
        )
    if isinstance(error, av.error.ConnectionRefusedError | av.error.HTTPError):
        return SourceError(
            SourceFault.REFUSED,
            f"{name} refuses the connection.",
            hint="Check that the server runs, and its port.",
        )
    return SourceError(
        SourceFault.NOT_FOUND,
        f"{name} cannot be reached.",
        hint="Check the host name and the network.",
    )
