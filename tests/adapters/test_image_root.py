"""Tables whose images lie beside, below or above them, and tables with headers of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from recamlabel.adapters import AdapterOptions, Dataset, load_dataset
from recamlabel.data.problem_lines import problem_lines
from recamlabel.errors import DatasetError

NAMES = [f"part_{number:03}.jpg" for number in range(40)]


def table(root: Path, images: str = "images", prefix: str = "", header: str = "image,labels") -> Path:
    """A label file in ``root`` that names 40 images without their folder."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [f"{prefix}{name},{'dent' if number % 2 else 'rust'}" for number, name in enumerate(NAMES)]
    (root / "labels.csv").write_text("\n".join([header, *rows]))
    fill(root / images)
    return root / "labels.csv"


def fill(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).touch()


def read(file: Path, **options: object) -> Dataset:
    return load_dataset(file, "auto", AdapterOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", ["images", "imgs", "JPEGImages", "photos", "line 3"])
def test_images_in_a_folder_beside_the_table(folder: str, tmp_path: Path) -> None:
    dataset = read(table(tmp_path, folder))
    assert dataset.problems == () and dataset.root == tmp_path / folder
    assert dataset.images[0].id == "part_000" and dataset.images[0].path == tmp_path / folder / "part_000.jpg"
    note = f"image names are relative to '{folder}', where the files are (--set data.image_root=FOLDER says otherwise)"
    assert note in dataset.notes


def keep(folder: Path, count: int) -> None:
    """Leave so many of the 40 images."""
    for name in NAMES[count:]:
        (folder / name).unlink()


@pytest.mark.parametrize("place", ["", "labels"])
def test_images_are_found_where_a_third_of_them_is_missing(place: str, tmp_path: Path) -> None:
    file = table(tmp_path / place, str(Path("images") if not place else Path("../images")))
    keep(tmp_path / "images", 27)
    dataset = read(file)
    assert dataset.root == tmp_path / "images"
    assert {problem.image_id for problem in dataset.problems} == {f"part_{number:03}" for number in range(27, 40)}
    assert all(problem.fatal and "part_0" in problem.message for problem in dataset.problems)


def test_the_folder_with_more_of_the_images_wins(tmp_path: Path) -> None:
    file = table(tmp_path)
    fill(tmp_path / "raw")
    keep(tmp_path / "raw", 16)
    keep(tmp_path / "images", 27)
    assert read(file).root == tmp_path / "images" and len(read(file).problems) == 13
    fill(tmp_path / "line 3")
    assert read(file).root == tmp_path / "line 3" and read(file).problems == ()


def test_of_two_folders_with_as_many_images_none_is_chosen(tmp_path: Path) -> None:
    file = table(tmp_path)
    fill(tmp_path / "raw")
    for folder in ("raw", "images"):
        keep(tmp_path / folder, 27)
    assert read(file).root == tmp_path and len(read(file).problems) == 40


def test_a_folder_beside_the_table_goes_before_one_above_it(tmp_path: Path) -> None:
    file = table(tmp_path / "labels")
    fill(tmp_path / "images")
    assert read(file).root == tmp_path / "labels/images"


def test_masks_with_the_same_names_are_not_taken_for_the_images(tmp_path: Path) -> None:
    file = table(tmp_path)
    for folder in ("masks", "images_truth", "ground_truth"):
        fill(tmp_path / folder)
    assert read(file).root == tmp_path / "images"


def test_a_table_in_a_folder_beside_images(tmp_path: Path) -> None:
    file = table(tmp_path / "labels", "../images")
    assert read(file).root == tmp_path / "images"


def test_paths_that_fit_are_left_alone(tmp_path: Path) -> None:
    file = table(tmp_path, "images", prefix="images/")
    fill(tmp_path / "images/images")
    dataset = read(file)
    assert dataset.root == tmp_path and dataset.images[0].id == "images/part_000"


def test_two_folders_that_fit_are_asked_about(tmp_path: Path) -> None:
    file = table(tmp_path, "left")
    fill(tmp_path / "right")
    lines = problem_lines(read(file).problems)
    assert len(lines) == 1 and lines[0].fatal
    assert (
        f"choose one: --set data.image_root={tmp_path}/left or --set data.image_root={tmp_path}/right (and 39 more"
        in lines[0].text
    )
    assert read(file, image_root=tmp_path / "right").problems == ()


def test_what_is_deeper_is_suggested_in_one_line(tmp_path: Path) -> None:
    file = table(tmp_path, "camera/7")
    dataset = read(file)
    assert len(dataset.problems) == 40 and all(problem.image_id for problem in dataset.problems)
    lines = problem_lines(dataset.problems)
    assert [line.text for line in lines] == [
        f"{file}, row 2: no image 'part_000.jpg' below {tmp_path}; some are in {tmp_path}/camera/7: "
        f"--set data.image_root={tmp_path}/camera/7 (and 39 more like it: rows 3, 4, 5, 6, 7, …)"
    ]
    assert read(file, image_root=tmp_path / "camera/7").problems == ()


def test_what_is_suggested_can_be_pasted(tmp_path: Path) -> None:
    line = problem_lines(read(table(tmp_path, "camera 7/raw")).problems)[0]
    assert f"--set 'data.image_root={tmp_path}/camera 7/raw' (and" in line.text


def test_nowhere_at_all(tmp_path: Path) -> None:
    file = table(tmp_path, "images")
    for name in NAMES:
        (tmp_path / "images" / name).unlink()
    assert "--set data.image_root=FOLDER (and 39 more" in problem_lines(read(file).problems)[0].text


def test_paths_above_the_table_have_a_way_out_that_works(tmp_path: Path) -> None:
    file = table(tmp_path / "labels", "../pics", prefix="../pics/")
    with pytest.raises(DatasetError) as caught:
        read(file)
    way_out = f"--set data.image_root={tmp_path}/pics reads them, or put the label file above its images"
    assert str(caught.value).startswith(
        f"{file}, row 2: image path '../pics/part_000.jpg' leads out of {tmp_path}/labels; {way_out}"
    )
    (tmp_path / "labels/classes.txt").write_text("dent\nrust\n")
    assert len(problem_lines(read(file).problems)) == 1
    dataset = read(file, image_root=tmp_path / "pics")
    assert dataset.problems == () and dataset.images[0].path == tmp_path / "pics/part_000.jpg"
    assert read(file, image_root=tmp_path).images[0].id == "pics/part_000"


def test_absolute_paths_elsewhere(tmp_path: Path) -> None:
    file = table(tmp_path / "labels", "../pics", prefix=f"{tmp_path}/pics/")
    with pytest.raises(DatasetError, match=rf"--set data\.image_root={tmp_path}/pics reads them"):
        read(file)
    assert read(file, image_root=tmp_path / "pics").problems == ()


@pytest.mark.parametrize(
    "header", ["filename,defects", "file,tags", "img,class", "Teil,Fehlerart", "image,damage seen"]
)
def test_the_only_other_column_has_the_labels(header: str, tmp_path: Path) -> None:
    dataset = read(table(tmp_path, header=header))
    assert dataset.classes.names == ("dent", "rust") and dataset.problems == ()


def test_the_only_other_column_beside_number_and_split(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,filename,defects,split\n1,a.jpg,dent,train\n2,b.jpg,rust,val\n")
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").touch()
    dataset = read(tmp_path)
    assert dataset.classes.names == ("dent", "rust") and dataset.splits == ("train", "val")


@pytest.mark.parametrize("header", ["filename,defects,operator", "filename,width"])
def test_what_may_be_something_else_is_asked_about(header: str, tmp_path: Path) -> None:
    cells = "dent,Ann" if "," in header[9:] else "640"
    (tmp_path / "labels.csv").write_text(f"{header}\na.jpg,{cells}\n")
    with pytest.raises(DatasetError, match=r"name it with --set data\.labels_column=NAME"):
        read(tmp_path)


@pytest.mark.parametrize("folder", ["", "images"])
@pytest.mark.parametrize("column", ["id", "image_id"])
def test_names_without_an_extension(column: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in ("x.1.png", "x.2.JPG"):
        (tmp_path / folder / name).touch()
    (tmp_path / "labels.csv").write_text(f"{column},label\nx.1,dent\nx.2,rust\n")
    dataset = read(tmp_path)
    assert dataset.problems == ()
    assert [(image.id, image.path.name) for image in dataset.images] == [("x.1", "x.1.png"), ("x.2", "x.2.JPG")]
    assert read(tmp_path, image_root=tmp_path / folder).problems == ()
