"""The report on the champion escapes the cells of its tables."""

import pandas as pd

from training.release.champion_page import table_to_html


def test_a_table_without_rows_is_empty_text():
    assert table_to_html(pd.DataFrame()) == ""


def test_the_cells_of_a_table_are_escaped():
    assert "&lt;script&gt;" in table_to_html(pd.DataFrame({"name": ["<script>"]}))
