"""`explorer.ingest.migrate`: a survey of schema 1, made by the code of its time, becomes one of schema 2."""

import fcntl
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.cli import main
from explorer.errors import SchemaError, SurveyError
from explorer.ingest import migrate as migrating
from explorer.ingest.migrate import migrate
from explorer.ledger import Ledger
from explorer.ledger import check as check_ledger
from explorer.survey import SUBJECTS_SCHEMA, Survey, check
from models.images import digest
from tests.explorer.killed import tree
from tests.explorer.making import finished

FROZEN = Path(__file__).parent / "frozen" / "survey_v1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copytree(FROZEN, tmp_path / "survey")
    return tmp_path / "survey"


def run(path: Path, discard_old: bool = False) -> dict[str, Any]:
    return finished(migrate(path, discard_old))


def test_everything_is_there_afterwards(old: Path) -> None:
    totals = run(old)
    assert totals == {"migrated": True, "old": str(old.with_name("survey.schema1")), "problems": []}
    assert check(old) == []
    before = pq.read_table(FROZEN / "subjects.parquet")
    after = pq.read_table(old / "subjects.parquet")
    assert after.schema.names[: len(SUBJECTS_SCHEMA)] == SUBJECTS_SCHEMA.names
    assert after.select(before.column_names).equals(before)
    assert after.schema.field("magnitude").metadata == before.schema.field("magnitude").metadata
    survey = Survey.open(old)
    assert survey.subject_ids.tolist() == before.column("subject_id").to_pylist()
    assert survey.info.survey_id == tomllib.loads((FROZEN / "survey.toml").read_text())["survey_id"]
    assert survey.images.shape == (25, 32, 32, 3)
    digests = np.load(old / "digests.npy")
    assert digests.shape == (25, 2)
    assert digests[7].tobytes() == digest(survey.images[7])
    assert len(np.unique(digests, axis=0)) == 24  # one is a twin
    assert np.isfinite(survey.scores(survey.runs("score")[0].run_id)["anomaly_score"]).all()
    assert np.isfinite(survey.coordinates(survey.maps()[0].run_id)).all()
    assert survey.subject(3)["crop_side"] == 32
    with Ledger(old, survey.info.survey_id) as ledger:
        kept = ledger.selection("Three that stood out", survey.subject_ids)
    assert len(kept.subject_ids) == 3
    assert check_ledger(old, survey.info.survey_id, survey.subject_ids) == []
    refused = pq.read_table(old / "quarantine.parquet")
    assert refused.column_names == ["source", "source_id", "reason", "thumbnail"]
    assert refused.select([0, 1, 2]).equals(pq.read_table(FROZEN / "quarantine.parquet"))
    survey.close()


def test_the_old_folder_is_kept_as_it_was_unless_it_is_to_go(old: Path, tmp_path: Path) -> None:
    run(old)
    assert tree(tmp_path / "survey.schema1") == tree(FROZEN)
    assert run(old)["migrated"] is False
    run(old, discard_old=True)
    assert [path.name for path in tmp_path.iterdir()] == ["survey"]
    assert check(old) == []


def test_a_cut_outs_crop_is_found_from_its_columns(old: Path) -> None:
    table = pq.read_table(old / "subjects.parquet")
    n = len(table)
    places = {"x": 100.4, "y": 30.6, "original_x": 52.0, "original_y": 0.0}
    for name, value in places.items():
        table = table.append_column(name, pa.array([value] * (n - 1) + [None], pa.float64()))
    pq.write_table(table, old / "subjects.parquet")
    run(old)
    after = pq.read_table(old / "subjects.parquet")
    # 32 px around 100.4 begin at 85 (half a pixel is the first one's middle), 33 px into what begins at 52
    assert after.column("crop_left").to_pylist() == [33] * (n - 1) + [None]
    assert after.column("crop_top").to_pylist() == [15] * (n - 1) + [None]


def test_a_users_column_of_a_new_name_is_kept_under_another(old: Path) -> None:
    table = pq.read_table(old / "subjects.parquet")
    table = table.append_column("is_known", pa.array(["yes"] * len(table)))
    pq.write_table(table, old / "subjects.parquet")
    run(old)
    after = pq.read_table(old / "subjects.parquet")
    assert after.column("is_known_given").to_pylist() == ["yes"] * len(table)
    assert after.column("is_known").null_count == len(table)


def test_large_files_are_linked_and_small_ones_copied(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "LINKED_BYTES", 40_000)
    run(old)
    kept = old.with_name("survey.schema1")
    assert (old / "originals" / "00000.pack").samefile(kept / "originals" / "00000.pack")
    assert not (old / "thumbnails" / "00000.pack").samefile(kept / "thumbnails" / "00000.pack")
    assert check(old) == []


def test_without_an_exchange_of_names_two_renames_do(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "exchange", lambda first, second: False)
    run(old)
    assert check(old) == []
    assert tree(old.with_name("survey.schema1")) == tree(FROZEN)
    # stopped between the two
    old.rename(old.with_name(".survey.migrating"))
    assert run(old)["migrated"] is False
    assert check(old) == []


def test_a_linked_folder_stays_linked_and_a_copy_with_problems_takes_no_place(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (old / "originals").rename(tmp_path / "disk")
    (old / "originals").symlink_to(tmp_path / "disk")
    pack = (tmp_path / "disk" / "00000.pack").read_bytes()
    (tmp_path / "disk" / "00000.pack").write_bytes(b"short")
    assert main(["migrate", str(old), "--discard-old"]) == 1
    assert f"{old}/originals/00000.pack has 5 bytes" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "survey"]
    assert main(["check", str(old)]) == 1  # of schema 1 still
    (tmp_path / "disk" / "00000.pack").write_bytes(pack)
    run(old, discard_old=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "survey"]
    assert check(old) == []
    assert (old / "originals").readlink() == tmp_path / "disk"


def test_a_second_migrate_leaves_the_first_ones_swap_alone(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap = migrating.swap

    def interrupted(new: Path, path: Path, kept: Path) -> None:
        migrating.exchange(new, path)
        with pytest.raises(SurveyError, match="another command is writing to"):
            run(path)
        migrating.exchange(new, path)
        swap(new, path, kept)

    monkeypatch.setattr(migrating, "swap", interrupted)
    run(old)
    assert check(old) == []
    assert tree(old.with_name("survey.schema1")) == tree(FROZEN)


def test_what_cannot_be_migrated(old: Path, tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match=r"is not a survey: it has no survey.toml"):
        run(tmp_path / "absent")
    with (old / "server.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(SurveyError, match=r"a server is at work on .*; stop it, then migrate"):
            run(old)
    (tmp_path / "survey.schema1").mkdir()
    with pytest.raises(SurveyError, match="is there already, where the old folder would be kept"):
        run(old)
    (tmp_path / "survey.schema1").rmdir()
    toml = (old / "survey.toml").read_text()
    (old / "survey.toml").write_text(toml.replace("schema_version = 1", "schema_version = 7"))
    with pytest.raises(SchemaError, match="has schema version 7; this Voorwerp brings version 1 to 2"):
        run(old)
    (old / "survey.toml").write_text(toml)
    (old / "images.zarr" / "c" / "0" / "0" / "0" / "0").write_bytes(b"short")
    with pytest.raises(SurveyError, match=r"images.zarr cannot be read"):
        run(old)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["survey"]  # the old one, and nothing half made


def test_the_command_names_the_kept_folder(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(old)]) == 1
    assert f"`voorwerp migrate {old}` brings it up to date" in capsys.readouterr().err
    assert main(["migrate", str(old)]) == 0
    assert f"the folder as it was is kept as {old}.schema1" in capsys.readouterr().out
    assert main(["check", str(old)]) == 0
    assert "no problem found: 25 subjects, 2 runs, 1 map" in capsys.readouterr().out
    assert main(["migrate", str(old)]) == 0
    assert "is up to date already" in capsys.readouterr().out


def test_killed_at_any_moment_either_survey_is_whole_and_a_second_migrate_finishes(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    command = [sys.executable, "-m", "tests.explorer.killed", "migrate", str(FROZEN), str(tmp_path / "work")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert answer.returncode == 0, answer.stderr
