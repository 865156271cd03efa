"""Tables in files: there and back, and refusals that say what and where."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from kanlens._files import line_number, read_frame, write_frames
from kanlens.errors import DataError, FileFormatError, MissingFileError, OutputError
from tests.test_atomic_files import make, refused

# -- tables, there and back


FRAME = pd.DataFrame(
    {
        "a b [mm]": [0.1, 1e308, 5e-324, -1 / 3],
        "<i>c</i>": ["x", 'q"uote', "two\nlines", "ü,;"],
        "n": [1, 2, 3, 2**53],
        "t": [True, False, True, True],
    }
)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".txt", ".csv.gz", ".parquet", ".pq", ".CSV"])
def test_frame_roundtrip_is_exact(tmp_path, ending):
    path = tmp_path / f"f{ending}"
    write_frames([FRAME], path, call="w")
    assert_frame_equal(read_frame(path, call="r"), FRAME, check_exact=True)
    assert list(tmp_path.iterdir()) == [path]


def test_random_doubles_survive_text(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**64, 4000, dtype=np.uint64)
    values = bits.view(np.float64)
    frame = pd.DataFrame({"v": values[np.isfinite(values)]})
    write_frames([frame], tmp_path / "v.csv", call="w")
    assert_frame_equal(read_frame(tmp_path / "v.csv", call="r"), frame, check_exact=True)


def test_carriage_returns_survive_text(tmp_path):
    frame = pd.DataFrame({"a\rb": [1.5, np.nan], "c": ["x\ry", np.nan]})
    write_frames([frame], tmp_path / "a.csv", call="w")
    assert (tmp_path / "a.csv").read_bytes() == b'"a\rb","c"\n1.5,"x\ry"\n"",""\n'
    assert_frame_equal(read_frame(tmp_path / "a.csv", call="r"), frame)


def test_write_refuses_unknown_endings(tmp_path):
    text = (
        "w: expected a file name that ends in .csv, .tsv, .txt, .csv.gz, .parquet, .pq, "
        "got 'a.xlsx'. Change the name."
    )
    with refused(OutputError, text):
        write_frames([FRAME], "a.xlsx", call="w")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "a,b\n1,2\n"),
        ("a.csv", "\ufeffa,b\r\n1,2\r\n"),
        ("a.csv", "\n  \na;b\n1;2"),
        ("a.csv", '"a"|"b"\n1|2'),
        ("a.txt", "a\tb\n1\t2\n"),
        ("a.txt", "a|b\n\n1|2\n"),
        ("a.tsv", '"a"\t"b"\n1\t2\n'),
    ],
)
def test_separators_byte_order_marks_and_blank_lines(tmp_path, name, content):
    frame = read_frame(make(tmp_path, name, content), call="r")
    assert_frame_equal(frame, pd.DataFrame({"a": [1], "b": [2]}))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a|b;c\n1\n", ["a|b;c"]),
        ("a|b;c,d\n1,2\n", ["a|b;c", "d"]),
        ("a, mm;b\n1;2\n", ["a, mm", "b"]),
        ("a;b\n1,5;2,5\n", ["a", "b"]),
        ("a,b\n", ["a", "b"]),
    ],
)
def test_separators_inside_names_and_numbers(tmp_path, content, names):
    assert read_frame(make(tmp_path, "a.csv", content), call="r").columns.tolist() == names


def test_names_are_kept_to_the_letter(tmp_path):
    names = [" a ", "b[0]", "<b>&amp;</b>", "", "x;y"]
    content = ",".join(names) + "\n1,2,3,4,5\n"
    frame = read_frame(make(tmp_path, "a.csv", content), call="r")
    assert frame.columns.tolist() == [" a ", "b[0]", "<b>&amp;</b>", "Unnamed: 3", "x;y"]


def test_folder_names_do_not_become_columns(tmp_path):
    path = tmp_path / "year=2020" / "a.parquet"
    write_frames([FRAME], path, call="w")
    assert read_frame(path, call="r").columns.tolist() == FRAME.columns.tolist()


# -- what cannot be read


FOLDER = object()
UNREADABLE = [  # a name, what is there, the error, and its text
    (
        "a.xls",
        "",
        FileFormatError,
        "a file whose name ends in .csv, .tsv, .txt, .csv.gz, .parquet, .pq, .xlsx, got '{}'. "
        "Convert the file, or pass a DataFrame.",
    ),
    *(
        (name, None, MissingFileError, "a file, got no file at '{}'. Check the path.")
        for name in ("none.csv", "none.parquet", "file/none.csv", "https://example.org/a.csv")
    ),
    *(
        (
            name,
            FOLDER,
            FileFormatError,
            "a readable file, got 'Is a directory' at '{}'. Check the file.",
        )
        for name in ("a.csv", "a.parquet")
    ),
    *(
        (name, "", FileFormatError, "a file with content, got the empty file '{}'. Replace it.")
        for name in ("a.csv", "a.parquet")
    ),
    ("a.csv", "\n \n", FileFormatError, "a table, got the empty file 'a.csv'. Add rows."),
    (
        "a.csv",
        "a,b,a\n1,2,3\n",
        DataError,
        "distinct column names, got 'a' 2 times in 'a.csv'. Rename or drop one.",
    ),
    *(
        (
            "a.csv",
            content,
            FileFormatError,
            "UTF-8 text, got invalid bytes in line 3 of 'a.csv'. Save it as UTF-8.",
        )
        for content in ("a,b\n1,2\né,4\n".encode("latin-1"), b"a,b\n1,2\n\x80,\n")
    ),
]


@pytest.mark.parametrize(("name", "content", "error", "text"), UNREADABLE)
def test_what_cannot_be_read(tmp_path, monkeypatch, name, content, error, text):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "file", "")
    if content is FOLDER:
        Path(name).mkdir()
    elif content is not None:
        make(tmp_path, name, content)
    with refused(error, f"r: expected {text.format(name)}"):
        read_frame(name, call="r")


def test_tables_without_rows_and_with_missing_cells_at_the_end_of_a_line(tmp_path):
    assert read_frame(make(tmp_path, "a.csv", "a,b\n"), call="r").shape == (0, 2)
    frame = read_frame(make(tmp_path, "a.csv", "a,b\n1,2\n3,\n"), call="r")
    assert frame["b"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("content", "cells", "line"),
    [
        ("a,b\n1,2\n3", 1, 3),
        ("a,b\n1,2,3\n", 3, 2),
        ("a,b\n1,2\n\n1,2,3\n1,2\n", 3, 4),
        ('a,b\n1,"2\nx"\n1\n1,2\n', 1, 4),
        ('a,b\n1,2\n3,4\n5,"6\n7', 2, None),
    ],
)
def test_uneven_lines(tmp_path, content, cells, line):
    path = make(tmp_path, "a.csv", content)
    with pytest.raises(FileFormatError) as caught:
        read_frame(path, call="r")
    if line is None:  # a quote that never ends
        start = "r: expected a table in text form, got 'Error tokenizing data. C error: EOF inside"
        assert str(caught.value).startswith(start)
        return
    assert str(caught.value) == (
        f"r: expected 2 cells in every line, got {cells} in line {line} of 'a.csv'. "
        "Correct that line; if it is the last one, the file is truncated."
    )


def test_parquet_under_the_name_of_text_and_the_reverse(tmp_path):
    write_frames([FRAME], tmp_path / "a.parquet", call="w")
    path = make(tmp_path, "a.csv", (tmp_path / "a.parquet").read_bytes())
    with pytest.raises(FileFormatError, match=r"^r: expected UTF-8 text, got invalid bytes in"):
        read_frame(path, call="r")
    path = make(tmp_path, "b.parquet", "a,b\n1,2\n" * 9)
    with pytest.raises(FileFormatError, match=r"^r: expected a Parquet file, got ") as caught:
        read_frame(path, call="r")
    ending = " in 'b.parquet'. The file is truncated or not a Parquet file; write it again."
    assert str(caught.value).endswith(ending)


@pytest.mark.parametrize("ending", [".parquet", ".csv.gz"])
def test_every_truncation_is_one_line(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_frames([FRAME], path, call="w")
    whole = path.read_bytes()
    for length in range(1, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError) as caught:
            read_frame(path, call="r")
        assert "\n" not in str(caught.value)


def test_text_that_is_not_zipped(tmp_path):
    path = make(tmp_path, "a.csv.gz", "a,b\n1,2\n")
    with pytest.raises(FileFormatError, match=r"^r: expected a readable file, got .*gzipped"):
        read_frame(path, call="r")


def test_damage_never_escapes_as_another_error(tmp_path):
    generator = np.random.default_rng(1)
    for ending in (".parquet", ".csv"):
        path = tmp_path / f"a{ending}"
        write_frames([FRAME], path, call="w")
        whole = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(whole)
            damaged[generator.integers(len(whole))] = generator.integers(256)
            path.write_bytes(bytes(damaged))
            try:
                read_frame(path, call="r")
            except (FileFormatError, DataError) as error:
                assert "\n" not in str(error)


# -- where a row stands


def test_line_numbers_count_quoted_and_blank_lines(tmp_path):
    content = 'a,b\n1,2\n\n3,"x\ny"\n   \n5,6\n'
    path = make(tmp_path, "a.csv", content)
    assert [line_number(path, row) for row in range(4)] == [2, 5, 7, None]
    with gzip.open(tmp_path / "b.csv.gz", "wt") as file:
        file.write(content)
    assert line_number(tmp_path / "b.csv.gz", 1) == 5


def test_line_numbers_where_there_are_none(tmp_path):
    assert line_number(tmp_path / "gone.csv", 0) is None
    assert line_number(tmp_path / "a.parquet", 0) is None
