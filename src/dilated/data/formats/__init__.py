"""Layouts of data on disk, one module each, found by name in `dilated.data.dataset.FORMATS`. Every module has

    CLASSES     what its label values mean, where the format says so; None where the folder's classes.toml does
    SOURCE      where its data can be had; "" for a layout of one's own
    detect      root -> bool: whether a folder looks like it, by its names and at most the ends of one file
    splits      root -> list[str]: the splits that are there, in part at least
    load        root, split -> list[Pair]; raises `InputError` with what is missing
    save        root, split, samples -> None: writes the layout that `load_checkpoint` reads, where there is one to write; formats
                of any classes (CLASSES is None, or they have `adapt_classes`) take the classes as a fourth argument

    classes     root -> Classes, where the folder's own files name them (CLASSES is None then)
    scan        root, split -> Found, where a format can list all that is missing and not only the first (for the check)
    PICTURES    split -> the published number of images, where there is one
    NOTES       split -> what a check should say of it
    notes       root -> list[str]: what was chosen where a folder leaves a choice, for people to read
    unsplit     root -> bool: whether the folder names no splits, so that `parting` makes them
    arranged    classes -> Classes: any classes as the format keeps them: with the background first, other values, ...

of which the last seven may be lacking. Formats that share files or rules with another say so by importing it: SBD and
COCO are read as VOC's classes.
"""
