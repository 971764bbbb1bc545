"""Makes `loans.csv`: synthetic customers of a bank, and whether they accepted a loan offer.

    python tools/make_sample.py > loans.csv

No row is a real person. Who accepts depends on income, card spending, family, education and employment, with
interactions and noise, so that a model can learn something and no model can learn everything.
"""

import csv
import datetime as dt
import math
import random
import sys
from typing import Any

ROWS = 4_000
EDUCATION = ("school", "bachelor", "master")
EMPLOYMENT = {"employee": 0.62, "self-employed": 0.16, "civil servant": 0.12, "retired": 0.07, "student": 0.03}


def customer(position: int, chance: random.Random) -> dict[str, Any]:
    """One row, with every value known."""
    age = min(max(round(chance.gauss(45, 13)), 18), 88)
    education = chance.choices(EDUCATION, (0.45, 0.35, 0.20))[0]
    employment = chance.choices(list(EMPLOYMENT), list(EMPLOYMENT.values()))[0]
    household = chance.choices((1, 2, 3, 4, 5), (0.28, 0.32, 0.18, 0.16, 0.06))[0]
    schooling = EDUCATION.index(education)
    factor = {"student": 0.4, "retired": 0.7, "self-employed": 1.15}.get(employment, 1.0)
    income = math.exp(chance.gauss(10.5 + 0.22 * schooling + 0.008 * min(age, 55), 0.45)) * factor
    spend = income / 12 * chance.betavariate(2.2, 7) + 40 * household
    mortgage = income * chance.uniform(1.0, 4.5) if chance.random() < 0.32 else 0.0
    savings = chance.random() < 0.25 + 0.25 * (income > 60_000)
    days = int(chance.expovariate(1 / 2_200)) % 9_000
    return {
        "customer_id": f"C{100_000 + position}",
        "customer_since": (dt.date(2026, 6, 30) - dt.timedelta(days)).isoformat(),
        "age": age,
        "education": education,
        "employment": employment,
        "region": chance.choice(("north", "south", "east", "west", "centre")),
        "household_size": household,
        "income": round(income, -2),
        "card_spend": round(spend, 2),
        "mortgage": round(mortgage, -2),
        "savings_account": savings,
        "online_banking": chance.random() < 0.8 - 0.005 * age,
    }


def accepts(row: dict[str, Any], chance: random.Random) -> bool:
    """Whether the customer takes the loan."""
    score = -6.6 + 1.5 * math.log(row["income"] / 40_000) + row["card_spend"] / 700
    score += 2.6 * (row["income"] > 85_000) * (row["education"] != "school")
    score += 1.1 * (row["household_size"] >= 3) + 0.9 * (row["employment"] == "self-employed")
    score += 1.2 * (row["mortgage"] == 0.0) * (row["age"] < 35)
    return chance.random() < 1 / (1 + math.exp(-1.5 * (score - 0.2)))


def with_gaps(row: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The row as a bank would hand it over: some values are missing, booleans read yes and no."""
    for field, share in (("employment", 0.04), ("income", 0.06), ("customer_since", 0.02), ("online_banking", 0.03)):
        if chance.random() < share:
            row[field] = None
    return {
        field: {True: "yes", False: "no"}[value] if isinstance(value, bool) else value for field, value in row.items()
    }


def main() -> None:
    """Write the sample to standard output."""
    chance = random.Random(2026)
    rows = []
    for position in range(ROWS):
        row = customer(position, chance)
        row["loan_accepted"] = accepts(row, chance)
        rows.append(with_gaps(row, chance))
    writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    main()
