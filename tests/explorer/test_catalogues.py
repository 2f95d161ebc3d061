"""Tables of every format come out alike: exact ids, units, missing as null; and what is broken is one sentence."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from explorer.errors import IngestError, UsageError
from explorer.ingest.catalogues import notes_of, read_catalogue, sky_columns, sky_positions
from tests.conftest import FIRST_ID

IDS = [FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]


def metadata(table: pa.Table, name: str) -> dict[str, str]:
    return {k.decode(): v.decode() for k, v in (table.schema.field(name).metadata or {}).items()}


def galaxies() -> Table:
    """Three rows with an id beyond 2⁵³, a missing magnitude, a unit and a column of vectors."""
    return Table(
        {
            "objid": np.array(IDS, np.int64),
            "RA": MaskedColumn([10.0, 20.0, 30.0], unit="deg"),
            "DEC": MaskedColumn([-1.0, 0.0, 89.5], unit="deg"),
            "flux": MaskedColumn(np.array([1.5, 2.5, 3.5], np.float32), unit="nJy"),
            "n": MaskedColumn(np.array([1, 2, 3], np.int16), mask=[False, True, False], fill_value=-99),
            "shape": ["spiral ", "", "ring"],
            "psf": np.ones((3, 4)),
        }
    )


@pytest.fixture
def fits_table(tmp_path: Path) -> Path:
    columns = [
        fits.Column("objid", "K", array=np.array(IDS)),
        fits.Column("RA", "D", unit="deg", array=[10.0, 20.0, 30.0]),
        fits.Column("DEC", "D", unit="deg", array=[-1.0, 0.0, 89.5]),
        fits.Column("flux", "E", unit="nJy", array=np.array([1.5, 2.5, 3.5], np.float32)),
        fits.Column("n", "I", null=-99, array=np.array([1, -99, 3], np.int16)),
        fits.Column("shape", "8A", array=["spiral", "", "ring"]),
        fits.Column("psf", "4D", array=np.ones((3, 4))),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "t.fits")
    return tmp_path / "t.fits"


@pytest.fixture(params=["fits", "fits.gz", "vot", "binary.vot", "ecsv"])
def astronomers_table(request: pytest.FixtureRequest, tmp_path: Path, fits_table: Path) -> Path:
    path = tmp_path / f"catalogue.{request.param}"
    if request.param == "fits":
        return fits_table
    if request.param == "fits.gz":
        path.write_bytes(gzip.compress(fits_table.read_bytes()))
    elif request.param == "ecsv":
        galaxies().write(path, format="ascii.ecsv")
    else:
        galaxies().write(path, format="votable", tabledata_format=("binary2" if "binary" in path.name else "tabledata"))
    return path


def test_formats_of_astronomy_give_exact_ids_units_and_missing_as_null(astronomers_table: Path):
    table = read_catalogue(astronomers_table)
    assert table.column("objid").to_pylist() == IDS
    assert metadata(table, "objid")["kind"] == "id"
    assert metadata(table, "flux") == {"kind": "number", "unit": "nJy"}
    assert table.schema.field("flux").type == pa.float32()
    assert table.column("flux").to_pylist() == [1.5, 2.5, 3.5]
    assert table.column("n").to_pylist() == [1, None, 3]
    assert [shape or None for shape in table.column("shape").to_pylist()] == ["spiral", None, "ring"]
    assert "psf" not in table.column_names
    assert 'column "psf"' in notes_of(table)[0]
    assert sky_columns(table) == ("RA", "DEC")


def test_a_csv_has_the_types_of_a_manifest(tmp_path: Path):
    (tmp_path / "t.csv").write_text("id,code,z,kind\n588848901523702001,007,0.1,a\n588848901523702002,008,,a\n")
    table = read_catalogue(tmp_path / "t.csv")
    assert table.column("id").to_pylist() == IDS[:2]
    assert table.column("code").to_pylist() == ["007", "008"]
    assert table.column("z").to_pylist() == [0.1, None]
    assert [metadata(table, name)["kind"] for name in table.column_names] == ["id", "text", "number", "category"]


def test_words_for_a_missing_number_leave_a_column_numbers_and_are_counted(tmp_path: Path):
    rows = ["1,0.5,NA,1", "NA,--,NA,2", "null,nan,NA,x", "4,N/A,NA,NA", f"{FIRST_ID},2,NA,"]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d", *rows]) + "\n")
    table = read_catalogue(tmp_path / "t.csv")
    assert table.column("a").to_pylist() == [1, None, None, 4, FIRST_ID]
    assert table.column("b").to_pylist() == [0.5, None, None, None, 2]
    assert table.column("c").to_pylist() == ["NA"] * 5
    assert table.column("d").to_pylist() == ["1", "2", "x", "NA", None]
    assert notes_of(table) == [
        '2 of 5 values of "a" are no numbers but NA, null, -- or alike',
        '3 of 5 values of "b" are no numbers but NA, null, -- or alike',
    ]


def test_a_column_without_a_name_is_left_out(tmp_path: Path):
    (tmp_path / "t.csv").write_text(",z\n0,0.5\n1,0.25\n")
    table = read_catalogue(tmp_path / "t.csv")
    assert table.to_pydict() == {"z": [0.5, 0.25]}
    assert notes_of(table) == ["column 1 of t.csv has no name and was left out"]


def test_a_parquet_column_that_is_there_twice_is_refused(tmp_path: Path):
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(IngestError, match='column "a" twice'):
        read_catalogue(tmp_path / "t.parquet")


def test_a_column_asked_for_as_text_keeps_every_character(tmp_path: Path):
    (tmp_path / "t.tsv").write_text("id\tz\n+1\t2\n1.50\t3\n")
    assert read_catalogue(tmp_path / "t.tsv", as_text=("id",)).column("id").to_pylist() == ["+1", "1.50"]
    with pytest.raises(UsageError, match='did you mean "id"'):
        read_catalogue(tmp_path / "t.tsv", as_text=("idd",))


def test_ids_that_are_floats_are_refused_as_ids(tmp_path: Path):
    pq.write_table(pa.table({"id": [1.0, 2.0]}), tmp_path / "t.parquet")
    with pytest.raises(IngestError, match="loses the last digits"):
        read_catalogue(tmp_path / "t.parquet", as_text=("id",))


def test_parquet_keeps_its_units_and_types(tmp_path: Path):
    schema = pa.schema(
        [pa.field("r", pa.float32(), metadata={"unit": "mag"}), ("u", pa.uint64()), ("v", pa.list_(pa.int8()))]
    )
    columns = [
        pa.array([1.5, None], pa.float32()),
        pa.array([1, 2**64 - 1], pa.uint64()),
        pa.array([[1], [2]], pa.list_(pa.int8())),
    ]
    pq.write_table(pa.table(columns, schema=schema), tmp_path / "t.parquet")
    table = read_catalogue(tmp_path / "t.parquet")
    assert metadata(table, "r") == {"kind": "number", "unit": "mag"}
    assert table.column("u").to_pylist() == ["1", str(2**64 - 1)]
    assert notes_of(table) == ['column "v" of t.parquet holds list<element: int8> and was left out']


def test_an_npz_gives_its_arrays_of_one_axis(tmp_path: Path):
    np.savez(tmp_path / "t.npz", X=np.zeros((3, 2)), label=np.array([1, 2, 3], np.int8), other=np.zeros(7))
    table = read_catalogue(tmp_path / "t.npz")
    assert table.column_names == ["label"]
    assert table.column("label").to_pylist() == [1, 2, 3]
    assert len(notes_of(table)) == 2


def test_wide_unsigned_integers_of_a_fits_table_stay_exact(tmp_path: Path):
    column = fits.Column("id", "K", bzero=2**63, array=np.array([2**64 - 1, 5], np.uint64))
    fits.BinTableHDU.from_columns([column]).writeto(tmp_path / "t.fits")
    assert read_catalogue(tmp_path / "t.fits").column("id").to_pylist() == [str(2**64 - 1), "5"]


# --------------------------------------------------------------------------------------------------- what is broken
VOTABLE = """<?xml version="1.0"?>
{doctype}<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>
<FIELD name="a" datatype="char" arraysize="*"/><DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>"""
ROW = "<TABLEDATA><TR><TD>{}</TD></TR></TABLEDATA>"


def test_a_votable_that_would_grow_a_billionfold_is_refused(tmp_path: Path):
    entities = '<!ENTITY e0 "ha">' + "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    bomb = VOTABLE.format(doctype=f"<!DOCTYPE VOTABLE [{entities}]>", data=ROW.format("&e9;"))
    (tmp_path / "t.vot").write_text(bomb)
    with pytest.raises(IngestError, match=r"t\.vot cannot be read"):
        read_catalogue(tmp_path / "t.vot")


def test_a_votable_reads_no_other_file(tmp_path: Path):
    (tmp_path / "secret.txt").write_text("secret")
    doctype = f'<!DOCTYPE VOTABLE [<!ENTITY x SYSTEM "file://{tmp_path}/secret.txt">]>'
    (tmp_path / "t.vot").write_text(VOTABLE.format(doctype=doctype, data=ROW.format("a&x;")))
    try:
        table = read_catalogue(tmp_path / "t.vot")
    except IngestError:
        return
    assert "secret" not in str(table.to_pydict())


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_a_votable_whose_data_lie_elsewhere_is_refused_without_a_look(tmp_path: Path, scheme: str, fits_table: Path):
    place = f"file://{fits_table}" if scheme == "file" else "http://127.0.0.1:9/t.fits"
    data = f'<FITS><STREAM href="{place}"/></FITS>'
    (tmp_path / "t.vot").write_text(VOTABLE.format(doctype="", data=data))
    with pytest.raises(IngestError, match="refers to data that lies elsewhere"):
        read_catalogue(tmp_path / "t.vot")


def test_object_arrays_in_an_npz_are_not_unpickled(tmp_path: Path):
    np.savez(tmp_path / "t.npz", a=np.array([print, None], object))
    with pytest.raises(IngestError, match="cannot be read"):
        read_catalogue(tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.fits", b"no FITS at all"),
        ("t.fits", b"SIMPLE  =                    T" + b" " * 50 + b"END".ljust(2800)),
        ("t.fits", b""),
        ("t.vot", b"<VOTABLE><RESOURCE>"),
        ("t.vot", b"\xff\xfe\x00"),
        ("t.ecsv", b"# %ECSV 1.0\n# ---\n# datatype: [\n"),
        ("t.parquet", b"PAR1PAR1"),
        ("t.npz", b"PK\x03\x04"),
        ("t.csv", b""),
        ("t.csv", b"a,b\n1,2,3\n"),
        ("t.csv", b"a,a\n1,2\n"),
        ("t.csv", b"a,b\n"),
        ("t.csv", b"a\n\xff\xfe\n"),
        ("t.doc", b"a"),
    ],
)
def test_a_broken_table_is_one_sentence_that_names_it(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IngestError, match=name.replace(".", r"\.")) as caught:
        read_catalogue(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_fits_table_is_refused(tmp_path: Path, fits_table: Path):
    big = Table({"x": np.arange(10_000)})
    big.write(tmp_path / "big.fits")
    (tmp_path / "short.fits").write_bytes((tmp_path / "big.fits").read_bytes()[:20_000])
    with pytest.raises(IngestError, match=r"short\.fits"):
        read_catalogue(tmp_path / "short.fits")


def test_damage_within_a_parquet_file_is_a_sentence(tmp_path: Path):
    pq.write_table(pa.table({"a": np.random.default_rng(0).random(1000)}), tmp_path / "t.parquet", compression="zstd")
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[2000:3000] = bytes(1000)
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(IngestError, match=r"t\.parquet is not a readable Parquet file"):
        read_catalogue(tmp_path / "t.parquet")


def test_a_table_that_is_not_there_is_a_sentence(tmp_path: Path):
    with pytest.raises(IngestError, match="does not exist"):
        read_catalogue(tmp_path / "none.csv")
    with pytest.raises(IngestError, match="is a folder"):
        read_catalogue(tmp_path)


# -------------------------------------------------------------------------------------------------------- positions
def test_positions_are_found_by_their_usual_names_and_brought_to_degrees():
    radians = pa.schema(
        [pa.field("RAJ2000", pa.float64(), metadata={"unit": "rad"}), pa.field("DEJ2000", pa.float64())]
    )
    table = pa.table([[np.pi, 1.0, -np.pi / 2], [45.0, 91.0, -90.0]], schema=radians)
    assert sky_columns(table) == ("RAJ2000", "DEJ2000")
    ra, dec = sky_positions(table)
    np.testing.assert_allclose(ra, [180.0, np.nan, 270.0])
    np.testing.assert_allclose(dec, [45.0, np.nan, -90.0])


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (pa.table({"raa": [1.0], "decc": [2.0]}), 'are they "raa" and "decc"'),
        (pa.table({"ra": ["10:00"], "dec": ["-1:00"]}), "holds text"),
    ],
)
def test_positions_that_cannot_be_used_are_a_sentence(table: pa.Table, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        sky_positions(table)


def test_the_hsc_catalogue_keeps_its_ids_beyond_two_to_the_53rd(shared_data: Path):
    table = read_catalogue(shared_data / "hsc_gan_catalog" / "anomaly_catalog_hsc_disc3sigma_without_holdout.csv")
    assert table.num_rows == 13_340
    assert table.column("HSC_object_id")[0].as_py() == 43356908874130036
    assert sky_columns(table) == ("ra", "dec")
