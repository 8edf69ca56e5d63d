from pathlib import Path

from hack import docs_site

SOURCES = "https://github.com/finetuning-operator/finetuning-operator"


def test_links_that_leave_the_pages_lead_to_the_repository() -> None:
    text = "[a](../SECURITY.md) [b](../examples/data) [c](trainer.md#data) [d](https://e.org/../f)"
    assert docs_site.leading_out(text, "security.md") == (
        f"[a]({SOURCES}/blob/main/SECURITY.md) [b]({SOURCES}/tree/main/examples/data) "
        "[c](trainer.md#data) [d](https://e.org/../f)"
    )


def test_links_from_a_folder_of_pages_stay_where_they_lead_to_a_page() -> None:
    text = "[a](../trainer.md) [b](../../charts/finetuning-operator/README.md#upgrade)"
    assert docs_site.leading_out(text, "reference/metrics.md") == (
        f"[a](../trainer.md) [b]({SOURCES}/blob/main/charts/finetuning-operator/README.md#upgrade)"
    )


def test_decisions_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    folder.mkdir()
    (folder / "0010-b.md").write_text("# Later\n\ntext")
    (folder / "0002-a.md").write_text("# 2. Earlier\n")
    assert docs_site.decisions(tmp_path) == [
        {"0002 Earlier": "decisions/0002-a.md"},
        {"0010 Later": "decisions/0010-b.md"},
    ]


def test_code_in_a_cell_has_its_bars_and_code_elsewhere_its_backslashes() -> None:
    html = r"<td><code>a\|b\|c</code></td><td>d</td><pre><code>grep 'a\|b'</code></pre>"
    expected = r"<td><code>a|b|c</code></td><td>d</td><pre><code>grep 'a\|b'</code></pre>"
    assert docs_site.unescaped(html) == expected
