"""`ddfnet report` end to end: the page as a headless Chromium shows it, and what the command refuses."""

import base64
import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ddfnet.cli import main

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield found
        found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of each kind: a comparison with its picture, a benchmark and a study without, and the report of them."""
    made = tmp_path_factory.mktemp("report")
    for name in ("depth_motorcycle.csv", "depth_motorcycle.png", "cpu_table_2.csv"):
        shutil.copy(RESULTS / name, made)
    (made / "study.csv").write_text(
        "recipe,seed,test_accuracy,parameters,command\n"
        "group/one,0,0.5,1234,<script>document.title = 'run'</script>\n"
        "group/one,1,0.75,1234,<script>document.title = 'run'</script>\n"
        "group/one,mean,0.625,,\n",
        encoding="utf-8",
    )
    (made / "study.png").write_bytes(b"not a picture")
    (made / "foreign.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (made / "ragged.csv").write_text("recipe,seed,command,test_accuracy\na,0,b\n", encoding="utf-8")
    assert main(["report", str(made / "report.html"), "--results", str(made), "--tables", "1", "3c", "7", "6"]) == 0
    return made


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    """The report in a browser; it asked for nothing but itself, and no script failed."""
    opened = browser.new_page()
    asked: list[str] = []
    failed: list[str] = []
    opened.on("request", lambda request: asked.append(request.url[:60]))
    opened.on("pageerror", lambda error: failed.append(str(error)))
    opened.on("console", lambda message: failed.append(message.text))  # what the page's policy refused, too
    opened.goto((folder / "report.html").as_uri())
    yield opened
    opened.close()
    assert failed == []
    assert [url for url in asked if not url.startswith("data:")] == [(folder / "report.html").as_uri()[:60]]


def test_the_papers_tables(page: Page) -> None:
    assert "ddfnet" in page.title()
    headings = page.locator("section.paper h3").all_inner_texts()
    assert [heading.partition(".")[0] for heading in headings] == ["Table 1", "Table 3c", "Table 6", "Table 7"]
    row = page.locator("#table-3c tbody tr").first.locator("th, td").all_inner_texts()
    assert row == ["sigma 0.2 [1]", "16.8", "16.844 ✓", "2.298", "2.2668 (2.2987) ≠", "79.1", "needs ImageNet"]
    colours = {mark: page.locator(f"#table-1 td.{mark}").first for mark in ("agrees", "differs")}
    assert len({cell.evaluate("cell => getComputedStyle(cell).color") for cell in colours.values()}) == 2
    assert page.locator("#table-1 li").count() >= 2
    page.locator("#table-3c summary").click()
    assert "sigma 0.2: ddfnet train --config imagenet/ddf_mul_resnet50" in page.locator("#table-3c pre").inner_text()


def test_the_overview_counts_what_the_tables_show(page: Page) -> None:
    for line in page.locator("#overview tbody tr").all():
        target = line.locator("a").get_attribute("href")
        for mark in ("agrees", "differs", "unprinted", "measured", "needs", "absent", "theirs"):
            told = line.locator(f"td.{mark}").inner_text() or "0"
            assert int(told) == page.locator(f"{target} td.{mark}").count()


def test_the_overview_fits_into_a_window(page: Page) -> None:
    page.set_viewport_size({"width": 1400, "height": 900})
    box = page.locator("nav .scroll")
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")


def test_result_files_and_pictures(page: Page, folder: Path) -> None:
    links = page.locator("nav p a").all_inner_texts()
    assert links == ["cpu_table_2.csv", "study.csv", "depth_motorcycle.csv"]
    sizes = page.locator("figure img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(sizes) == 3  # two are drawn, one lay beside its file
    assert min(sizes) > 300
    for name in links:
        link = page.locator(f"a[download='{name}']").get_attribute("href")
        assert link is not None
        assert base64.b64decode(link.partition(",")[2]) == (folder / name).read_bytes()
    assert page.locator("#file-1 table.means tbody td").all_inner_texts() == [
        "group/one",
        "2",
        "1,234",
        "0.6250 ± 0.1768",
    ]
    assert "run" not in page.title()
    page.locator("#file-1 summary").click()
    assert "<script>" in page.locator("#file-1 dl").inner_text()


def test_rows_are_sorted_and_searched(page: Page, folder: Path) -> None:
    with (folder / "depth_motorcycle.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = page.locator("#file-2 table")
    place = table.locator("th").all_inner_texts().index("rmse") + 1
    heading = table.locator(f"th:nth-child({place})")
    errors = sorted((row["rmse"] for row in rows), key=float)
    for order, expected in (("ascending", errors), ("descending", errors[::-1])):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == order
        shown = table.locator(f"tbody td:nth-child({place})").evaluate_all("cells => cells.map(c => c.dataset.exact)")
        assert shown == expected
    table.locator("th:nth-child(2) button").click()
    names = table.locator("tbody td:nth-child(2)").all_inner_texts()
    assert names[:3] == ["bicubic"] * 3
    assert heading.get_attribute("aria-sort") is None


def test_dates_and_sizes_are_sorted_as_text(browser: Browser, tmp_path: Path) -> None:
    """And numbers in them as numbers; from a file with a byte order mark."""
    file, study = tmp_path / "report.html", tmp_path / "study.csv"
    dates = ["2026-11-26T12:05", "2026-11-26T09:05", "2026-02-01T23:05"]
    lines = [
        f"{name},{seed},0.5,{date},x" for seed, (name, date) in enumerate(zip(("a10", "a9", "a1"), dates, strict=True))
    ]
    study.write_text("\n".join(["recipe,seed,test_accuracy,date,command", *lines, ""]), encoding="utf-8-sig")
    assert main(["report", str(file), "--results", str(study), "--tables", "3c"]) == 0
    page = browser.new_page()
    page.goto(file.as_uri())
    page.locator("#file-0 summary").click()
    for heading, expected in (("date", sorted(dates)), ("recipe", ["a1", "a9", "a10"])):
        table = page.locator("#file-0 table.sortable")
        place = table.locator("th").all_inner_texts().index(heading) + 1
        table.locator(f"th:nth-child({place}) button").click()
        assert table.locator(f"tbody td:nth-child({place})").all_inner_texts() == expected
    page.close()


def test_files_of_one_name_have_a_place_each(browser: Browser, tmp_path: Path) -> None:
    for folder, scored in (("a b", 0.25), ("c#d", 0.75)):
        (tmp_path / folder).mkdir()
        line = f"imagenet/resnet50,0,{scored},{{}},ddfnet train --config imagenet/resnet50 --seed 0 --data.root X"
        text = f"recipe,seed,test_accuracy,changes,command\n{line}\n"
        (tmp_path / folder / "same.csv").write_text(text, encoding="utf-8")
    file = tmp_path / "report.html"
    folders = [str(tmp_path / "a b"), str(tmp_path / "c#d")]
    assert main(["report", str(file), "--results", *folders, "--tables", "3a"]) == 0
    page = browser.new_page()
    page.goto(file.as_uri())
    for number, shown in enumerate(("0.2500", "0.7500")):
        page.locator("nav p a").nth(number).click()
        assert page.locator(":target table.means tbody td").last.inner_text() == shown
    assert page.locator("#table-3a td.measured").first.inner_text() == "25.00 *"
    page.close()


def test_on_paper_nothing_is_cut_off(page: Page) -> None:
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 between its margins
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    wide = "tables => tables.filter(table => table.getBoundingClientRect().right > innerWidth).length"
    assert page.locator("table").evaluate_all(wide) == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_long_files_are_searched(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert main(["report", str(file), "--results", str(RESULTS / "cpu_op.csv"), "--tables", "3c"]) == 0
    page = browser.new_page()
    page.goto(file.as_uri())
    section = page.locator("#file-0")
    assert not section.locator("table").is_visible()
    section.locator("summary").click()
    section.locator("input").fill("DDF channels_last 28x28")
    rows = section.locator("tbody tr:visible")
    assert 0 < rows.count() < section.locator("tbody tr").count()
    assert all("channels_last" in text and "28x28" in text for text in rows.all_inner_texts())
    page.close()


def test_it_says_what_it_wrote(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--results", str(folder), "--tables", "1"]
    assert main(["report", str(tmp_path / "a.html"), *options]) == 0
    printed = capsys.readouterr().out
    assert "a.html: 1 table, 3 result files" in printed
    assert "left out:" in printed
    assert "foreign.csv" in printed
    assert "ragged.csv: expected as many cells in every row" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["a.txt"], "FILE: expected a name that ends in .html, got a.txt"),
        (["."], "FILE: expected a name that ends in .html"),
        (["nowhere/a.html"], "FILE: the folder nowhere is not there"),
        (["--tables", "9"], "N: expected tables among"),
        (["--results", "nowhere"], "--results: expected result files or a folder of them, nowhere is not there"),
    ],
)
def test_what_it_refuses(argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *argv]) in (1, 2)  # found while options are read, or later
    assert sentence in capsys.readouterr().err
