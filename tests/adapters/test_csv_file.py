"""The csv adapter on tiny files: what is read, and the whole text of every complaint."""

from __future__ import annotations

from pathlib import Path

import pytest

from recamlabel.adapters import AdapterOptions, Dataset, load_dataset
from recamlabel.errors import DatasetError


def write(root: Path, text: str | bytes, images: str = "a.jpg b.jpg c.jpg d.jpg", name: str = "labels.csv") -> Path:
    """A label file and empty files in place of the images: the adapter opens none of them."""
    for image in images.split():
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / image).touch()
    file = root / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def read(file: Path, **options: object) -> Dataset:
    return load_dataset(file, "csv", AdapterOptions(**options))  # type: ignore[arg-type]


def labels(dataset: Dataset) -> dict[str, str]:
    return {image.id: " + ".join(sorted(image.present)) for image in dataset.images}


def complaints(dataset: Dataset) -> list[str]:
    return [str(problem).replace(f"{dataset.root}/", "") for problem in dataset.problems]


def error(file: Path, **options: object) -> str:
    with pytest.raises(DatasetError) as caught:
        read(file, **options)
    return str(caught.value).replace(f"{file.parent}/", "").replace(str(file.parent), "ROOT")


# --- separators -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("image,labels\na.jpg,cat dog\nb.jpg,cat\nc.jpg,dog\n", "' '"),
        ('image,labels\na.jpg,"cat,dog"\nb.jpg,cat\nc.jpg,dog\n', "','"),
        ('image,labels\na.jpg,"cat, dog"\nb.jpg,cat\nc.jpg,dog\n', "','"),
        ("image,labels\na.jpg,cat;dog\nb.jpg,cat\nc.jpg,dog\n", "';'"),
        ("image,labels\na.jpg,cat|dog|\nb.jpg, cat\nc.jpg,dog \n", "'|'"),
        ("image;labels\na.jpg;cat,dog\nb.jpg;cat\nc.jpg;dog\n", "','"),
        ("image\tlabels\na.jpg\tcat, dog\nb.jpg\tcat\nc.jpg\tdog\n", "','"),
        ("image;labels\na.jpg;cat dog\nb.jpg;cat\nc.jpg;dog\n", "' '"),
    ],
)
def test_separator_and_delimiter_are_found(tmp_path: Path, text: str, mark: str) -> None:
    dataset = read(write(tmp_path, text))
    assert labels(dataset) == {"a": "cat + dog", "b": "cat", "c": "dog"}
    assert dataset.notes[1].startswith(f"labels are separated by {mark} (")
    assert dataset.problems == ()


def test_names_with_spaces_beside_another_separator(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,labels\na.jpg,traffic light\nb.jpg,traffic light;car\nc.jpg,stop sign\n"))
    assert dataset.classes.names == ("car", "stop sign", "traffic light")
    assert labels(dataset) == {"a": "traffic light", "b": "car + traffic light", "c": "stop sign"}
    assert dataset.notes[1] == "labels are separated by ';' (a semicolon is in 1 of 3 rows)"


def test_names_with_spaces_and_one_label_a_row(tmp_path: Path) -> None:
    rows = [f"{i}.jpg,{name}" for i, name in enumerate(["traffic light"] * 3 + ["teddy bear"] * 3 + ["car"] * 3)]
    dataset = read(write(tmp_path, "image,labels\n" + "\n".join(rows), " ".join(f"{i}.jpg" for i in range(9))))
    assert dataset.classes.names == ("car", "teddy bear", "traffic light")
    assert dataset.notes[1] == (
        "labels are taken as they stand (one label a row; names such as 'traffic light' keep together)"
    )


def test_two_orders_of_two_words_are_two_labels(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,labels\na.jpg,cat dog\nb.jpg,dog cat\n"))
    assert labels(dataset) == {"a": "cat + dog", "b": "cat + dog"}


def test_too_little_evidence_is_asked_about(tmp_path: Path) -> None:
    file = write(tmp_path, "image,labels\na.jpg,bird\nb.jpg,cat dog\n")
    assert error(file) == (
        "labels.csv, row 3: cannot tell whether 'cat dog' is one label or 2 labels; for labels between spaces "
        "declare it "
        "with --set 'data.label_separator=\" \"', for names with a space in them declare it with --set "
        "'data.label_separator=\",\"', or list the class names in classes.txt"
    )
    assert labels(read(file, label_separator=" ")) == {"a": "bird", "b": "cat + dog"}
    assert labels(read(file, label_separator=",")) == {"a": "bird", "b": "cat dog"}
    assert labels(read(file, classes=("bird", "cat dog"))) == {"a": "bird", "b": "cat dog"}
    assert labels(read(file, classes=("bird", "cat", "dog"))) == {"a": "bird", "b": "cat + dog"}


def test_given_classes_that_fit_both_ways_are_asked_about(tmp_path: Path) -> None:
    file = write(tmp_path, "image,labels\na.jpg,hot dog\n")
    message = error(file, classes=("hot", "dog", "hot dog"))
    assert message.startswith("labels.csv, row 2: cannot tell whether 'hot dog' is one label or 2 labels;")


def test_two_marks_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "image;labels\na.jpg;cat,dog\nb.jpg;cat|dog\n")
    assert error(file) == (
        "labels.csv: more than one mark could separate labels: a comma in row 2 ('cat,dog'), a pipe in row 3 "
        "('cat|dog'); "
        "use one, or declare it with --set 'data.label_separator=\"MARK\"'"
    )


def test_a_slip_among_many_rows_is_refused(tmp_path: Path) -> None:
    rows = [f"{i}.jpg;{cell}" for i, cell in enumerate(["cat dog", "dog bird", "cat bird"] * 10 + ["cat,dog"])]
    file = write(tmp_path, "image;labels\n" + "\n".join(rows), "")
    assert error(file).startswith(
        "labels.csv: more than one mark could separate labels: a comma in row 32 ('cat,dog'), a space in row 2 "
        "('cat dog');"
    )


def test_given_classes_outvote_a_slip(tmp_path: Path) -> None:
    file = write(tmp_path, "image;labels\na.jpg;cat dog\nb.jpg;cat bird\nc.jpg;cat,dog\n")
    dataset = read(file, classes=("cat", "dog", "bird"))
    assert labels(dataset) == {"a": "cat + dog", "b": "bird + cat", "c": ""}
    assert complaints(dataset) == [
        "labels.csv, row 4: unknown class 'cat,dog'; did you mean 'dog'? "
        "(classes given by the setting data.classes: cat, dog, bird)"
    ]


# --- one column per class ------------------------------------------------------------------------


def test_a_column_per_class_with_three_states(tmp_path: Path) -> None:
    text = "file,dent,scratch,split,remark\na.jpg,1,0,train,ok\nb.jpg,,1.0,train,\nc.jpg,-1,0.0,val,\n"
    dataset = read(write(tmp_path, text))
    assert dataset.classes.names == ("dent", "scratch")
    assert dataset.labels().tolist() == [[1, 0], [-1, 1], [-1, 0]]
    assert [image.split for image in dataset.images] == ["train", "train", "val"]
    assert dataset.notes[1:] == (
        "columns: image = 'file', split = 'split', columns of 0 and 1: 2",
        "columns that are not read: remark",
    )


def test_a_class_may_be_called_label_or_tag(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,tag,label\na.jpg,1,0\nb.jpg,0,1\n"))
    assert labels(dataset) == {"a": "tag", "b": "label"}


def test_a_slip_in_a_class_column_has_its_row(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,dent,scratch\na.jpg,1,0\nb.jpg,0,1\nc.jpg,yes,0\nd.jpg,0,0\n"))
    assert complaints(dataset) == [
        "labels.csv, row 4: 'yes' in column 'dent'; expected 1 (present), 0 (absent), -1 or blank (unknown)"
    ]


def test_given_classes_choose_the_columns(tmp_path: Path) -> None:
    file = write(tmp_path, "image,dent,scratch,blurred\na.jpg,1,0,1\n")
    dataset = read(file, classes=("scratch", "dent"))
    assert dataset.labels().tolist() == [[0, 1]]
    assert dataset.notes[-1] == "columns that are not read: blurred"
    assert error(file, classes=("dent", "scratches")) == (
        "labels.csv, row 1: no column for class 'scratches'; there is a column 'scratch' (1 of 2 classes have none); "
        "the given classes and the columns must have the same names"
    )


def test_a_labels_column_of_0_and_1_only_is_asked_about(tmp_path: Path) -> None:
    file = write(tmp_path, "image,label\na.jpg,1\nb.jpg,0\n")
    assert error(file) == (
        "labels.csv, row 1: column 'label' holds only 0, 1 and -1: one class, or the numbers of classes? For one class "
        "give the column the name of the class; for classes called '0' and '1' use --set data.labels_column=label"
    )
    assert labels(read(file, labels_column="label")) == {"a": "1", "b": "0"}
    assert labels(read(file, classes=("label",))) == {"a": "label", "b": ""}
    assert labels(read(file, classes=("0", "1"))) == {"a": "1", "b": "0"}


# --- columns and paths --------------------------------------------------------------------------


def test_declared_columns_win(tmp_path: Path) -> None:
    text = "image,labels,split,Photo No,what,part\nx,y,z,a.jpg,cat,train\n"
    options = {"image_column": "photo no", "labels_column": "what", "split_column": "part"}
    dataset = read(write(tmp_path, text), **options)
    assert [(image.id, set(image.present), image.split) for image in dataset.images] == [("a", {"cat"}, "train")]
    assert dataset.notes[-2:] == (
        "columns: image = 'Photo No', labels = 'what', split = 'part'",
        "columns that are not read: image, labels, split",
    )


@pytest.mark.parametrize("setting", ["image_column", "labels_column", "split_column"])
def test_declared_column_that_is_not_there(tmp_path: Path, setting: str) -> None:
    file = write(tmp_path, "image,labels\na.jpg,cat\n")
    assert error(file, **{setting: "label"}) == (
        f"labels.csv, row 1: no column 'label' (setting data.{setting}); did you mean 'labels'? "
        "The columns are 'image', 'labels'"
    )


def test_the_column_with_the_files_is_the_image_column(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,path,labels\na.jpg,x/a.jpg,cat\nb.jpg,x/b.jpg,\n", "x/a.jpg x/b.jpg"))
    assert labels(dataset) == {"x/a": "cat", "x/b": ""}
    by_cells = read(write(tmp_path, "where,labels\nx/a.jpg,cat\n", ""))
    assert labels(by_cells) == {"x/a": "cat"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "foto,labels\n1,cat\n",
            "labels.csv, row 1: no image column among 'foto', 'labels'; expected one called image, filename, file "
            "or path, "
            "or name it with --set data.image_column=NAME",
        ),
        (
            "image,height\na.jpg,480\n",
            "labels.csv, row 1: neither a labels column nor columns of 0 and 1 among 'image', 'height'; expected "
            "a column "
            "called labels, tags or classes, or name it with --set data.labels_column=NAME",
        ),
        (
            "a.jpg,cat\nb.jpg,dog\n",
            "labels.csv, row 1: no header, this line looks like data; put a line such as 'image,labels' above it",
        ),
        ("image,labels,labels\n", "labels.csv, row 1: two columns are called 'labels'; every name may stand once"),
        (",,\n", "labels.csv: empty; expected a header line such as 'image,labels' and one row an image"),
        (
            "image,labels\na.jpg,cat,dog\n",
            "labels.csv, row 2: cells: 3 here, 2 in the header (image, labels); put quotes around a cell that has the "
            "delimiter in it (no row with a label can be read; problems: 1)",
        ),
        (
            "image,labels\na.jpg,\"['cat', 'dog']\"\n",
            "labels.csv, row 2: \"['cat', 'dog']\" is a list as a program writes it; expected labels with a comma, "
            "semicolon, pipe or space between them, without brackets and quotes",
        ),
        ("", "labels.csv: empty; expected a header line such as 'image,labels' and one row an image"),
        ('image,labels\na.jpg,"cat\n', "labels.csv, row 2: not valid CSV: unexpected end of data"),
        (
            "image,labels\na.jpg,\n",
            "labels.csv: no class: nothing in it has a label; label at least one image, or list the class names "
            "in a file "
            "classes.txt beside the images",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    assert error(write(tmp_path, text)) == message


def test_a_separator_without_a_labels_column(tmp_path: Path) -> None:
    assert error(write(tmp_path, "image,cat\na.jpg,1\n"), label_separator=";") == (
        "labels.csv, row 1: a label separator is set, but no labels column is among 'image', 'cat'; name it with "
        "--set data.labels_column=NAME, or leave the separator out"
    )


def test_paths_are_normalised(tmp_path: Path) -> None:
    text = f"image,labels\n.\\x\\a.jpg,cat\n{tmp_path}/x/b.jpg,cat\n./x//c.jpg,cat\n"
    assert list(labels(read(write(tmp_path, text, "x/a.jpg x/b.jpg x/c.jpg")))) == ["x/a", "x/b", "x/c"]


def test_bad_rows_have_their_line_and_the_others_are_read(tmp_path: Path) -> None:
    text = 'image,labels\n"a.jpg","cat\n"\n\n../b.jpg,cat\n/etc/x.jpg,cat\nC:\\x.jpg,cat\n,cat\nc.jpg\nd.jpg,cat,dog\n'
    dataset = read(write(tmp_path, text))
    assert labels(dataset) == {"a": "cat"}
    root = str(tmp_path)
    assert complaints(dataset) == [
        f"labels.csv, row 5: image path '../b.jpg' has '..' in it; expected a path relative to {root} that stays "
        "inside",
        f"labels.csv, row 6: image path '/etc/x.jpg' is outside of {root}; put the label file above its images",
        f"labels.csv, row 7: image path 'C:\\\\x.jpg' is absolute; expected a path relative to {root}",
        "labels.csv, row 8: no image path in this row; expected a path relative to the label file",
        "labels.csv, row 9: cells: 1 here, 2 in the header (image, labels); put quotes around a cell that has the "
        "delimiter in it",
        "labels.csv, row 10: cells: 3 here, 2 in the header (image, labels); put quotes around a cell that has the "
        "delimiter in it",
    ]
    assert all(problem.fatal and problem.image_id is None for problem in dataset.problems)


def test_missing_images_are_tied_to_the_image_and_say_what_is_there(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,labels\na,cat\nB.JPG,cat\nx/c.jpg,cat\nz.jpg,cat\n", "a.jpg b.jpg"))
    end = "; fix the path or put the image there, or name the images' folder with --set data.image_root=FOLDER"
    assert complaints(dataset) == [
        f"labels.csv, row 2: no image 'a' below {tmp_path}; 'a.jpg' is there{end}",
        f"labels.csv, row 3: no image 'B.JPG' below {tmp_path}; 'b.jpg' is there{end}",
        f"labels.csv, row 4: no image 'x/c.jpg' below {tmp_path}; there is no folder x{end}",
        f"labels.csv, row 5: no image 'z.jpg' below {tmp_path}{end}",
    ]
    assert [problem.image_id for problem in dataset.problems] == ["a", "B", "x/c", "z"]
    assert [problem.row for problem in dataset.problems] == [2, 3, 4, 5]
    assert len(dataset) == 4


def test_repeated_rows(tmp_path: Path) -> None:
    rows = ["a.jpg,cat,train", "b.jpg,cat dog,", "a.jpg,cat,train", "./b.jpg,dog,", "a.jpg,cat,val", "c.jpg,dog,"]
    text = "\n".join(["image,labels,split", *rows])
    dataset = read(write(tmp_path, text))
    assert labels(dataset) == {"a": "cat", "b": "cat + dog", "c": "dog"}
    assert complaints(dataset) == [
        "labels.csv, row 4: the same as row 2 ('a.jpg'); read once",
        "labels.csv, row 5: 'b.jpg' has labels dog here but labels cat, dog in row 3; "
        "expected one row an image, with all its labels",
        "labels.csv, row 6: 'a.jpg' has labels cat, split val here but labels cat, split train in row 2; "
        "expected one row an image, with all its labels",
    ]
    assert [problem.fatal for problem in dataset.problems] == [False, True, True]


def test_two_images_with_one_id(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,labels\na.jpg,cat\na.png,cat\n", "a.jpg a.png"))
    assert labels(dataset) == {"a": "cat"}
    assert complaints(dataset) == [
        "labels.csv, row 3: 'a.png' and 'a.jpg' (row 2) would both have the id 'a', which is the path without "
        "extension; "
        "rename one of the files"
    ]
    assert dataset.problems[0].fatal
    assert dataset.problems[0].image_id is None


def test_an_image_named_like_a_folder_keeps_its_extension(tmp_path: Path) -> None:
    text = "image,labels\na.jpg,cat\na/b.jpg,cat\na.png,cat\n"
    assert list(labels(read(write(tmp_path, text, "a.jpg a/b.jpg a.png")))) == ["a.jpg", "a/b", "a.png"]


# --- classes, encodings, sources -------------------------------------------------------------------


def test_classes_file_gives_the_order_and_the_limits(tmp_path: Path) -> None:
    file = write(tmp_path, "image,labels\na.jpg,dog\nb.jpg,cat dgo\n")
    (tmp_path / "classes.txt").write_bytes("\ufeffbackground\ndog\n\n cat \n".encode())
    dataset = read(file)
    assert dataset.classes.names == ("dog", "cat")
    assert complaints(dataset) == [
        "labels.csv, row 3: unknown class 'dgo'; did you mean 'dog'? (classes given by classes.txt: dog, cat)"
    ]
    assert read(file, classes=("cat", "dog", "dgo")).problems == ()
    (tmp_path / "classes.txt").write_text("cat\ndog\ncat\n")
    assert error(file) == "classes.txt: class 'cat' stands there twice; every name may stand once"
    (tmp_path / "classes.txt").write_text("\n")
    assert error(file) == "classes.txt: no class name; expected one name a line, or no such file"


def test_background_is_no_label(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,labels\na.jpg,cat\nb.jpg,Background\n"))
    assert dataset.labels().tolist() == [[1], [0]]
    assert "rows with the label 'background': 1; it says that no class is there" in dataset.notes


def test_names_that_differ_in_case_only_are_pointed_out(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,labels\na.jpg,cat\nb.jpg,Cat\n"))
    message = "labels.csv: classes 'Cat' and 'cat' differ in upper and lower case only and are two classes"
    assert complaints(dataset) == [message]
    assert not dataset.problems[0].fatal


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    dataset = read(write(tmp_path, "image,labels\r\na.jpg,Käse\r\n".encode(encoding)))
    assert labels(dataset) == {"a": "Käse"}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_other_encodings_name_row_and_byte(tmp_path: Path, mark: bytes) -> None:
    file = write(tmp_path, mark + b"image,labels\r\na.jpg,cat\r\nb.jpg,K\xe4se\r\n")
    assert error(file) == (
        "labels.csv, row 3: not UTF-8: byte 0xe4 in b'cat\\r\\nb.jpg,K\\xe4se\\r\\n'; save the file as UTF-8 (in a "
        "spreadsheet 'CSV UTF-8'; or: iconv -f WINDOWS-1252 -t UTF-8 'labels.csv' > utf8-'labels.csv')"
    )


def test_utf16_without_a_mark_and_damaged_utf16(tmp_path: Path) -> None:
    assert error(write(tmp_path, "image,labels".encode("utf-16-le"))) == (
        "labels.csv, row 1: a NUL character: a binary file, or UTF-16 without a byte-order mark; expected text, "
        "save it as UTF-8"
    )
    assert error(write(tmp_path, b"\xff\xfea")) == (
        "labels.csv: begins with the byte-order mark of utf-16 but is not utf-16; save it as UTF-8"
    )


def test_a_folder_needs_one_label_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a folder with no CSV file and no labels\.csv; give the path of the label"):
        read(tmp_path)
    write(tmp_path, "image,labels\na.jpg,cat\n", name="one.csv")
    assert load_dataset(tmp_path).notes[0] == "read as 'csv': one.csv is its only CSV"
    write(tmp_path, "image,labels\na.jpg,cat\n", name="two.tsv")
    with pytest.raises(DatasetError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: a folder with 2 CSV files (one.csv, two.tsv) and no labels.csv; "
        "give the path of the label file itself"
    )
    write(tmp_path, "image,labels\na.jpg,dog\n")
    assert load_dataset(tmp_path).classes.names == ("dog",)


def test_an_image_where_a_label_file_was_meant(tmp_path: Path) -> None:
    write(tmp_path, "", "a.jpg")
    assert error(tmp_path / "a.jpg") == "a.jpg: an image; expected a CSV file with labels, or a folder with one"


def test_a_linked_label_file_lies_beside_its_images(tmp_path: Path) -> None:
    store = write(tmp_path / "data", "image,labels\na.jpg,cat\n").rename(tmp_path / "store.csv")
    (tmp_path / "data/labels.csv").symlink_to(store)
    assert read(tmp_path / "data/labels.csv").problems == ()


def test_no_row_but_classes(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,labels\n"), classes=("cat",))
    assert (len(dataset), dataset.splits) == (0, ())


def test_a_row_without_a_split_is_in_none(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "image,labels,split\na.jpg,cat,train\nb.jpg,cat,\n"))
    assert [image.split for image in dataset.images] == ["train", None]
    assert dataset.notes[-1] == "rows without a split: 1; they are not trained on"
