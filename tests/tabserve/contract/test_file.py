from pathlib import Path

import pytest

from tabserve.contract import file as contract_file
from tabserve.contract.model import Contract
from tabserve.errors import UserError, without_controls

GOOD = """\
version: 1
data: a.csv
task: classification
columns:
  age:
    role: feature
    type: integer
    range: [0, 120]
  "ja: nein":
    role: target
    type: category
    categories: ["no", "yes"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "contract.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_good_contract(tmp_path: Path) -> None:
    loaded = contract_file.load(written(tmp_path, GOOD))
    assert loaded.target == "ja: nein"
    assert loaded.classes == ("no", "yes")
    assert list(loaded.features) == ["age"]


def test_dump_and_load_are_inverse(tmp_path: Path) -> None:
    loaded = contract_file.load(written(tmp_path, GOOD))
    text = contract_file.dump(loaded)
    assert contract_file.load(written(tmp_path, text)) == loaded
    assert not contract_file.is_edited(text)
    assert contract_file.is_edited(text.replace("120", "121"))
    assert contract_file.is_edited(GOOD)


def test_no_control_is_raw_in_the_file(tmp_path: Path) -> None:
    name = "a\u202eb: \x1b[31m\n\U000e0041"
    columns = {name: {"role": "feature", "type": "number", "reason": name}, "y": {"role": "target", "type": "number"}}
    document = {"version": 1, "data": "t.csv", "task": "regression", "columns": columns}
    contract = Contract.model_validate(document)
    text = contract_file.dump(contract)
    assert without_controls(text, lines=True) == text
    assert contract_file.load(written(tmp_path, text)) == contract
    assert not contract_file.is_edited(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 1", "version: 2", "contract version 2, newer than 1"),
        ("type: integer", "type: int", "line 7: columns > age > type: Input should be 'integer'"),
        ("range: [0, 120]", "range: [120, 0]", "line 5: columns > age: range must be [lowest, highest]"),
        ("role: feature", "role: features", "line 6: columns > age > role"),
        (
            "    type: integer",
            "    typo: integer",
            "line 7: columns > age > typo: unknown field; the fields are role, type, missing",
        ),
        ('categories: ["no", "yes"]', 'categories: ["no", "no"]', "categories must differ"),
        ('categories: ["no", "yes"]', 'categories: ["no"]', "two or more categories"),
        ("role: target", "role: feature", "line 4: columns: exactly one must have role target, not 0"),
        ("role: feature", "role: ignored", "line 4: columns: at least one must have role feature"),
        ("range: [0, 120]", "categories: [1, 2]", "categories is for columns of type category only"),
        ("range: [0, 120]", "range: [0, .inf]", "finite"),
        ("range: [0, 120]", "range: 0-120", "line 8: columns > age > range: a range is [lowest, highest], two numbers"),
        ('["no", "yes"]', "[no, maybe]", "YAML reads NO, yes and on as booleans"),
        ('["no", "yes"]', "[0.5, 1.5]", "a category is a text, a whole number, true or false; put quotes"),
        ("  age:\n    role: feature\n    type: integer\n    range: [0, 120]", "  age:", "a column holds role, type"),
        (
            "range: [0, 120]",
            "format: '%d.%m.%Y'",
            "line 5: columns > age: format of a number is '1,234.5' or '1.234,5'",
        ),
        ("integer\n    range: [0, 120]", "date\n    format: dd.mm.yyyy", "format must be a strftime format"),
        ("integer\n    range: [0, 120]", "date\n    unit: kg", "unit is for columns of type integer, number only"),
        ("type: category", "type: text", "line 9: columns > ja: nein: categories is for columns of type category"),
        (
            "columns:",
            "split: {by: luck, column: age}\ncolumns:",
            "line 4: split > by: Input should be 'time' or 'group'",
        ),
        (
            "columns:",
            "split: {by: time, column: born}\ncolumns:",
            "there is no column 'born'; the columns are age, ja: nein",
        ),
        ("columns:", "split: {by: time, column: 'ja: nein'}\ncolumns:", "by time needs a column of type date"),
        ("columns:", "split: {by: time, col: age}\ncolumns:", "unknown field; the fields are by, column"),
        ("  age:", '  "ja: nein":\n    role: ignored\n  age:', "line 11: duplicate key 'ja: nein'"),
        ("columns:", "columns: [", "not valid YAML"),
        (GOOD, "- 1", "is not a contract"),
        (GOOD, "", "is not a contract"),
    ],
)
def test_bad_contract_gets_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        contract_file.load(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_contract_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make contract DATA=file"):
        contract_file.load(tmp_path / "contract.yaml")


def test_differences(tmp_path: Path) -> None:
    old = contract_file.load(written(tmp_path, GOOD))
    new = contract_file.load(written(tmp_path, GOOD.replace("integer", "number").replace("  age:", "  years:")))
    assert contract_file.differences(old, old) == []
    assert contract_file.differences(old, new) == ["'age' was removed", "'years' is new (feature)"]
    wider = contract_file.load(written(tmp_path, GOOD.replace("120", "130")))
    assert contract_file.differences(old, wider) == ["'age' range: [0, 120] becomes [0, 130]"]
