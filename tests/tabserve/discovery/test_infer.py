import datetime as dt
from pathlib import Path
from random import Random

import polars as pl
import pytest

from tabserve.contract.model import COMMA, POINT, Column, Task
from tabserve.discovery import infer
from tabserve.discovery.features import feature
from tabserve.discovery.formats import Conventions
from tabserve.errors import UserError
from tabserve.tables import reader
from tabserve.tables.casting import typed_column
from tabserve.tables.parsing import clean


def column(folder: Path, values: list[str]) -> Column:
    """How a CSV column with these values is understood."""
    path = folder / "table.csv"
    lines = [f'"{value}",{position % 2}' for position, value in enumerate(values)]
    path.write_text("\n".join(["x,target", *lines]), encoding="utf-8")
    return feature(clean(pl.concat(reader.batches(path))["x"]))


def test_hostile_table(csv_file: Path) -> None:
    columns = infer.infer(csv_file, "bought").columns
    kinds = {name: (column.role, column.type, column.missing) for name, column in columns.items()}
    assert kinds == {
        "id": ("ignored", None, False),
        "Wohnfläche (m²)": ("feature", "number", True),
        "rooms, total": ("feature", "integer", False),
        'city "name"': ("feature", "category", True),
        "warm?": ("feature", "boolean", True),
        "seit": ("feature", "date", True),
        "last.seen": ("feature", "datetime", False),
        "Uhrzeit": ("feature", "time", True),
        "source": ("ignored", None, False),
        "remark": ("feature", "text", False),
        "bought": ("target", "category", False),
        "Größe": ("feature", "category", False),
        "prix €": ("feature", "number", False),
    }
    assert columns["id"].reason.startswith("identifier-like")
    assert columns["source"].reason == "constant: always 'web'"
    assert columns["remark"].reason.startswith("text: ")
    assert columns["bought"].categories == ("no", "yes")


@pytest.mark.parametrize("unit", [1e-42, 1e-9, 0.01, 1, 1e6, 1e15, 1e36])
@pytest.mark.parametrize("shift", [0, 2**24, -(2**31)])
def test_the_inferred_contract_accepts_what_it_saw(tmp_path: Path, unit: float, shift: int) -> None:
    values = pl.Series("x", [str(shift + unit * (i % 50)) for i in range(60)])
    found = feature(values)
    assert found.role == "ignored" or not typed_column(found, values)[1].any()


def test_csv_and_parquet_agree(csv_file: Path, table: pl.DataFrame, tmp_path: Path) -> None:
    parquet = tmp_path / "table.parquet"
    table.write_parquet(parquet)
    from_csv, from_parquet = (infer.infer(path, "bought").columns for path in (csv_file, parquet))
    assert from_csv == from_parquet


@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([str(i % 7) for i in range(60)], "integer"),
        ([f"{i}.5" for i in range(60)], "number"),
        ([f"{i % 9}e-3" for i in range(60)], "number"),
        (["yes", "NO", "Yes", "n/a"] * 15, "boolean"),
        (["00123", "04567", "00123"] * 20, "category"),
        ([f"2024-01-{1 + i % 28:02}" for i in range(60)], "date"),
        ([f"{1 + i % 28:02}.01.2024" for i in range(60)], "date"),
        ([f"2024-01-{1 + i % 28:02}T10:{i % 60:02}:00Z" for i in range(60)], "datetime"),
        ([f"2024-01-{1 + i % 28:02} 10:{i % 60:02}" for i in range(60)], "datetime"),
        (["red", "green", " red ", "?"] * 15, "category"),
        (["inf", "1e99", *(f"{i}.5" for i in range(60))], "number"),
        ([str(2**40 + 2**20 * (i % 50)) for i in range(60)], "integer"),
        ([f"{i % 50}e-42" for i in range(60)], "number"),
        ([f"a rather long remark number {i}" for i in range(60)], "text"),
        ([f"{i % 24:02}:{i % 60:02}" for i in range(60)], "time"),
        ([f"{1 + i % 12}:{i % 60:02} PM" for i in range(60)], "time"),
        ([f"{1 + i % 28}-Jan-24" for i in range(60)], "date"),
        ([f"January {1 + i % 28}, 2024" for i in range(60)], "date"),
        ([f"202401{1 + i % 28:02}" for i in range(60)], "date"),
        ([f"2024-{1 + i % 12:02}" for i in range(60)], "date"),
        ([f"{1 + i % 12}/{1 + i % 28}/24 3:0{i % 10} AM" for i in range(60)], "datetime"),
        ([f"2024-01-{1 + i % 28:02} 10:00:0{i % 10} +0200" for i in range(60)], "datetime"),
        ([f"{i % 9} kg" for i in range(60)], "integer"),
        ([f"€{i % 9},5" for i in range(60)], "number"),
        ([f"{i % 99},{i % 7}%" for i in range(60)], "number"),
        (["USD 5", "EUR 7"] * 30, "category"),
        (["5%", "0.5"] * 30, "category"),
        ([f"192.168.180.{100 + i % 9}" for i in range(60)], "category"),
        ([f"+49 170 680 24{i % 9}" for i in range(60)], "category"),
        (["05", *(str(10 + i % 50) for i in range(90))], "category"),
        ([f"REF {i % 9}" for i in range(60)], "category"),
        (["unknown", *(f"{i % 9}.5" for i in range(60))], "number"),
        ([f"{10_000_000 + i % 50}" for i in range(60)], "integer"),
    ],
)
def test_types(tmp_path: Path, values: list[str], type: str) -> None:
    assert column(tmp_path, values).type == type


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([str(1_000 + i) for i in range(60)], "identifier-like"),
        ([f"user-{i}" for i in range(60)], "identifier-like"),
        (["same"] * 60, "constant"),
        ([str(2**53 + 2 * (i % 50)) for i in range(60)], "constant for float32"),
        (["", "NA", "null"] * 20, "empty"),
        (["x", *[""] * 99], "nearly empty"),
        ([f"name {i % 51} of {i // 2}" if i % 2 else f"town {i}" for i in range(110)], "identifier-like"),
        ([f"town{i % 70}" for i in range(140)], None),
    ],
)
def test_reasons(tmp_path: Path, values: list[str], reason: str | None) -> None:
    found = column(tmp_path, values)
    assert (found.role == "feature") if reason is None else (found.role == "ignored" and reason in found.reason)


def test_the_reason_names_ambiguities_and_missing_values(tmp_path: Path) -> None:
    days = [f"{1 + i % 9:02}/{1 + i % 12:02}/2024,3{i % 2}.12.2023 10:{i % 60:02}" for i in range(60)]
    rows = [f"{day},{['no', 'yes', 'None'][i % 3]}" for i, day in enumerate(days)]
    (tmp_path / "t.csv").write_text("\n".join(["day,seen,y", *rows]))
    columns = infer.infer(tmp_path / "t.csv", "y").columns
    assert (columns["day"].type, columns["day"].format) == ("date", "%d/%m/%Y")
    assert columns["day"].reason.endswith(", the day first (or %m/%d/%Y?)")
    assert (columns["seen"].type, columns["seen"].format) == ("datetime", "%d.%m.%Y %H:%M")
    assert columns["y"].reason.endswith("; 'None' read as missing in 20 rows")


def test_parquet_dates_after_9999(tmp_path: Path) -> None:
    days = pl.Series("d", range(2_932_800, 2_932_960), dtype=pl.Int32).cast(pl.Date)
    table = pl.DataFrame([days, pl.Series("x", range(160)) * 7 % 11, pl.Series("y", range(160)) % 2])
    table.write_parquet(tmp_path / "t.parquet")
    columns = infer.infer(tmp_path / "t.parquet", "y").columns
    assert columns["d"].role == "ignored"
    assert columns["x"].role == "feature"


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt8, pl.Int16, pl.Int64, pl.UInt64, pl.Float32])
def test_narrow_numbers_in_parquet(kind: type[pl.DataType]) -> None:
    found = feature(pl.Series("x", [i * 7 % 11 for i in range(60)], dtype=kind))
    assert (found.type, found.range) == ("integer", (0, 20))


@pytest.mark.parametrize("values", [[[1], [2]], [{"a": 1}, {"a": 2}], [dt.timedelta(1), dt.timedelta(2)]])
def test_targets_of_odd_types(tmp_path: Path, values: list[object]) -> None:
    pl.DataFrame({"x": range(40), "y": values * 20}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="holds values of type"):
        infer.infer(tmp_path / "t.parquet", "y")


def test_a_target_with_a_few_words_among_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{i % 50},{'POA' if i % 40 == 0 else i * i % 997 + 0.5}\n" for i in range(200)))
    contract = infer.infer(path, "y")
    assert contract.task == "regression"
    assert contract.columns["y"].na_values == ("POA",)


def test_leakage_of_a_quantity(tmp_path: Path) -> None:
    chance = Random(0)
    net = [chance.lognormvariate(8, 2) for _ in range(300)]
    rows = "".join(f"{value * 1.19:.2f},{chance.random():.4f},{value:.2f}\n" for value in net)
    (tmp_path / "t.csv").write_text("gross,noise,net\n" + rows)
    columns = infer.infer(tmp_path / "t.csv", "net").columns
    assert [name for name, column in columns.items() if "alone predicts" in column.reason] == ["gross"]


def test_years_of_two_digits_are_reported(tmp_path: Path) -> None:
    reason = column(tmp_path, [f"{1 + i % 28:02}.12.{40 + i % 50}" for i in range(60)]).reason
    assert reason.endswith("years of two digits read as 1970 to 2069")


def test_rare_categories_become_other(tmp_path: Path) -> None:
    found = column(tmp_path, ["a", "b"] * 300 + ["rare"])
    assert found.categories == ("a", "b")
    assert found.other
    assert "1 rare ones taken together as other" in found.reason


def test_ranges_are_generous_but_do_not_cross_zero(tmp_path: Path) -> None:
    assert column(tmp_path, [str(18 + i) for i in (*range(60), 3)]).range == (0, 136)
    assert column(tmp_path, [str(i % 2) for i in range(60)]).range == (0, 1)
    assert column(tmp_path, [str(-5 + i % 11) for i in range(60)]).range == (-15, 15)


@pytest.mark.parametrize(
    ("values", "task", "expected", "labels"),
    [
        (["yes", "no"], None, "classification", ("no", "yes")),
        (["1", "0"], None, "classification", (0, 1)),
        (["True", "False"], None, "classification", ("False", "True")),
        (["good", "good", "good", "bad"], None, "classification", ("good", "bad")),
        (["3", "1", "2"], None, "classification", (1, 2, 3)),
        (["3", "1", "2"], "regression", "regression", ()),
        (["1.5", "2.5", "0.5"], None, "regression", ()),
    ],
)
def test_targets(
    tmp_path: Path, values: list[str], task: Task | None, expected: str, labels: tuple[bool | int | str, ...]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,y", *(f"{i % 5},{value}" for i, value in enumerate(values * 10))]))
    contract = infer.infer(path, "y", task)
    assert contract.task == expected
    assert contract.classes == labels


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("x,y\n", "y", "has a header but no rows"),
        ("", "y", "is empty"),
        ("x,y\n1,2\n", "z", "has no column 'z'; it has 'x', 'y'"),
        ("x,y\n1,2\n2,2\n", "y", "always '2': there is nothing to learn"),
        ("x,y\n1,\n2,NA\n", "y", "has no value in any row"),
        ("x,y\n1,a\n1,b\n", "y", "has no usable feature: x: constant"),
        ("x,y\n1,a\n2,b\n3,a\n", "y", "class 'b' has a single row"),
        ("x,y\n1,2\n1,2,3,4\n", "y", "cannot be read as CSV"),
        ("x,id\n" + "\n".join(f"{i % 3},{i}" for i in range(100)), "id", "is identifier-like"),
        ("x,y\n" + "\n".join(f"{i % 3},v{i // 2}" for i in range(400)), "y", "too many classes"),
    ],
)
def test_unusable_tables(tmp_path: Path, text: str, target: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        infer.infer(path, target)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_and_false_endings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        infer.infer(tmp_path / "table.csv", "y")
    (tmp_path / "not.parquet").write_text("x,y\n1,2\n")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        infer.infer(tmp_path / "not.parquet", "y")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1,234", "5,678"], (POINT, None)),
        (["1,234.5", "5"], (POINT, None)),
        (["1.234,5", "5"], (COMMA, None)),
        (["1'234.50", "5"], (POINT, None)),
        (["1 234,5", "7"], (COMMA, None)),
        (["(1,200.00)", "3.5"], (POINT, None)),
        (["1,23,456", "7"], (POINT, None)),
        (["$1.5", "-$2"], (None, "$")),
        (["5 %", "7 %"], (None, "%")),
        (["1,5 km/h", "2,5 km/h"], (COMMA, "km/h")),
        (["CHF 1'000", "CHF 20"], (POINT, "CHF")),
        (["1e3", "2.5E-2"], (None, None)),
        (["0,512", "0,043"], (COMMA, None)),
        (["0.900", "0.411"], (None, None)),
        (["1.234,50-", "7,00"], (COMMA, None)),
        (["($12.50)", "$3"], (None, "$")),
        (["5 kg", "7 kg", "8"], (None, "kg")),
        (["Rs. 1,200", "Rs. 800"], (POINT, "Rs.")),
    ],
)
def test_number_formats(tmp_path: Path, values: list[str], expected: tuple[str | None, str | None]) -> None:
    found = column(tmp_path, values * 20)
    assert (found.format, found.unit) == expected
    read, bad = typed_column(found, pl.Series(values))
    assert read.null_count() == 0
    assert not bad.any()


def test_other_columns_decide_what_is_ambiguous() -> None:
    thousands, days = pl.Series("x", ["1.234", "5.678"] * 9), pl.Series("x", ["01/02/2024", "03/04/2024"] * 9)
    assert feature(thousands).format is None
    assert feature(thousands, Conventions(comma=True)).format == COMMA
    assert feature(days).format == "%d/%m/%Y"
    assert feature(days, Conventions(month_first=True)).format == "%m/%d/%Y"


def test_a_day_above_12_says_which_number_is_the_month() -> None:
    for values, format in ((["12/31/2024", "01/02/2024"], "%m/%d/%Y"), (["13/12/2024", "01/02/2024"], "%d/%m/%Y")):
        assert feature(pl.Series("x", values * 9)).format == format


def test_a_number_of_eight_digits_may_be_a_day() -> None:
    assert feature(pl.Series("x", [20240101, 20240229] * 9)).format == "%Y%m%d"
    assert feature(pl.Series("x", [202401010, 202402291] * 9)).type == "integer"


def test_words_among_numbers_are_missing_values(tmp_path: Path) -> None:
    found = column(tmp_path, ["error", *(f"{i % 9}.5" for i in range(60))])
    assert (found.na_values, found.missing) == (("error",), True)
    assert "'error' in 1 rows read as missing" in found.reason


def test_a_boolean_target_with_many_spellings(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{i % 5},{('Yes', 'no', 'YES', 'N')[i % 4]}\n" for i in range(60)))
    contract = infer.infer(path, "y")
    assert contract.classes == (False, True)
    values, bad = typed_column(contract.columns["y"], pl.concat(reader.batches(path))["y"])
    assert values.to_list()[:4] == ["true", "false", "true", "false"]
    assert not bad.any()


def test_classes_of_a_single_row_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{i % 5},{'abc'[i % 3]}\n" for i in range(60)) + "1,rare\n")
    target = infer.infer(path, "y").columns["y"]
    assert target.categories == ("a", "b", "c")
    assert "1 of a single row left out: 'rare'" in target.reason


@pytest.mark.parametrize(("values", "task"), [(2, None), (3, "regression"), (20, "regression"), (21, None)])
def test_a_person_is_asked_about_a_few_whole_numbers(tmp_path: Path, values: int, task: Task | None) -> None:
    path, asked = tmp_path / "t.csv", []

    def ask(name: str, count: int) -> Task:
        asked.append((name, count))
        return "regression"

    path.write_text("x,y\n" + "".join(f"{i % 5},{i % values}\n" for i in range(210)))
    contract = infer.infer(path, "y", ask=ask)
    assert asked == ([("y", values)] if task else [])
    assert contract.task == (task or ("classification" if values == 2 else "regression"))


def test_leakage_names_the_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{i * 7 % 50},{'ab'[i % 2]},{i * i % 11},{i % 2}" for i in range(200)]
    path.write_text("\n".join(["x,copy,noise,y", *lines]))
    reasons = {name: column.reason for name, column in infer.infer(path, "y").columns.items()}
    assert [name for name, reason in reasons.items() if "alone predicts the target perfectly" in reason] == ["copy"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "t.csv"
    rows = [("x", "y, z; w", "t"), *((str(i), f"a{i % 3}", str(i % 2)) for i in range(40))]
    path.write_text("\n".join(separator.join(f'"{cell}"' for cell in row) for row in rows))
    assert list(infer.infer(path, "t").columns) == ["x", "y, z; w", "t"]
