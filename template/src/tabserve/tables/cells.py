"""Texts in CSV files that a spreadsheet would run as formulas: marked where we write, unmarked where we read."""

import polars as pl

from tabserve.tables.parsing import NUMBER_PATTERNS

# What begins a formula, also in letters of full width, and after blanks and quotes: also after our own mark.
FORMULA = r"""^[\s'"]*[=+\-@\t\r＝＋－＠]"""
NUMBER = "|".join(
    (*NUMBER_PATTERNS.values(), r"^[+-]?(?:inf|nan)$", r"^[+-]\s?[$€£¥]?\s?[\d.,]+\s?(?:%|\p{L}{1,20})?$")
)


def marked(table: pl.DataFrame) -> pl.DataFrame:
    """The table with `'` before such texts, also names of columns; numbers stay numbers."""
    cells = pl.selectors.string(include_categorical=True) | pl.selectors.enum()
    changed = table.with_columns(_prefixed(cells.cast(pl.String)))
    names = pl.Series(table.columns, dtype=pl.String).to_frame("name").select(_prefixed(pl.col("name")))
    return changed.rename(dict(zip(table.columns, names["name"], strict=True)))


def _prefixed(texts: pl.Expr) -> pl.Expr:
    return pl.when(_runs(texts)).then("'" + texts).otherwise(texts).name.keep()


def _runs(texts: pl.Expr) -> pl.Expr:
    return texts.str.contains(FORMULA) & ~texts.str.strip_chars().str.contains(NUMBER)


def unmarked(table: pl.DataFrame) -> pl.DataFrame:
    """The table as it was before `marked`, but for the names of columns."""
    # Few cells begin with the mark: the patterns are for columns that have one.
    suspects = [name for name, column in zip(table.columns, table, strict=True) if _has_mark(column)]
    return table.with_columns(_plain(pl.col(suspects))) if suspects else table


def unmarked_names(names: list[str]) -> list[str]:
    """The names of columns as they were before `marked`."""
    return pl.DataFrame({"name": names}, schema={"name": pl.String}).select(_plain(pl.col("name")))["name"].to_list()


def _has_mark(column: pl.Series) -> bool:
    return column.dtype == pl.String and bool(column.str.starts_with("'").any())


def _plain(texts: pl.Expr) -> pl.Expr:
    rest = texts.str.slice(1)
    return pl.when(texts.str.starts_with("'") & _runs(rest)).then(rest).otherwise(texts)
