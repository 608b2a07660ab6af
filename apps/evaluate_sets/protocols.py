"""The protocols by name, in the order in which they are asked whether a place is theirs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from retain.apps import console
from retain.apps.evaluate_sets.base import (
    TABLES,
    Kept,
    Known,
    SetOptions,
    chosen,
    save,
    show,
    told,
)
from retain.pipeline.catalog import load_class

_HERE = "retain.apps.evaluate_sets"


def _echonet(path: Path) -> bool:
    return (path / "FileList.csv").is_file()


def _camus(path: Path) -> bool:
    places = ("patient*", "database_nifti/patient*", "training/patient*", "testing/patient*")
    return any(next(path.glob(place), None) for place in places)


def _vid(path: Path) -> bool:
    from retain.datasets.detect.vid import ImageNetVid

    return path.is_dir() and ImageNetVid.recognises(path)


def _mot(path: Path) -> bool:
    from retain.datasets.detect.mot import Mot

    return path.is_dir() and Mot.recognises(path)


def _scene(path: Path) -> bool:
    from retain.apps.evaluate_sets.scene import recognises

    return recognises(path)


def _davis(path: Path) -> bool:
    return all((path / part).is_dir() for part in ("JPEGImages", "Annotations"))


def _gebd(path: Path) -> bool:
    from retain.apps.evaluate_sets.gebd import recognises

    return recognises(path)


PROTOCOLS = (
    Known("echonet", "EchoNet-Dynamic: Dice of the left ventricle, EF", _echonet,
          f"{_HERE}.echo:echonet", ("test", "val", "train"), network=True),
    Known("camus", "CAMUS: Dice, HD95, ASD by structure and phase; volumes, EF", _camus,
          f"{_HERE}.echo:camus", ("test", "val", "train"), network=True),
    Known("davis", "DAVIS: J and F, mean, recall and decay", _davis, f"{_HERE}.davis:davis",
          ("val", "train", "trainval")),
    Known("vid", "ImageNet VID: mAP, slow, medium, fast", _vid, f"{_HERE}.detection:vid",
          ("val", "train"), network=True),
    Known("mot", "MOTChallenge: HOTA, MOTA, IDF1", _mot, f"{_HERE}.detection:mot", network=True),
    Known("gebd", "Kinetics-GEBD: F1 at ten relative distances", _gebd, f"{_HERE}.gebd:gebd"),
    Known("scene", "TUM RGB-D, Replica, 7-Scenes, ScanNet, …: path errors, PSNR, depth", _scene,
          f"{_HERE}.scene:scene"),
)  # fmt: skip


def evaluate(options: SetOptions) -> int:
    """Print the tables of what lies at ``options.path`` and keep them; the exit code: 3 when some
    items could not be judged."""
    known = chosen(options, PROTOCOLS)
    out = options.out if options.out != Path() else Path("retain-out") / f"eval-{known.name}"
    with closing(Kept(out, options, name=known.name)) as kept:
        with told() as tell:
            tables = list(load_class(known.run)(options, kept, tell))
        show(tables)
        for path in (out / TABLES, *([options.json] if options.json else [])):
            save(path, tables)
    console.messages().print(f"kept in {out}", markup=False)
    return 3 if kept.failed else 0
