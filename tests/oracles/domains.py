"""Slow, literal versions of network dissection's three rules of IoU, pixel by pixel, and of counting detectors.

Written from Bau et al. (2017), section 2, and from what is written about the released codes; nothing here knows of
cells. Images are lists of rows of pixels; a pixel's labels are a set of concept numbers, or None where it is ignored.
"""

from __future__ import annotations


def counts_under(rule, unit, labels, annotated, concept, category):
    """Return (intersection, union) of one unit with one concept.

    unit: per image, rows of bools. labels: per image, rows of sets or None. annotated: per image, a set of categories.
    category: per concept, its category.
    """
    own = category[concept]
    intersection = concept_pixels = unit_pixels = 0
    for mask, picture, known in zip(unit, labels, annotated, strict=True):
        active = in_concept = both = 0
        shows = meets = False
        for mask_row, picture_row in zip(mask, picture, strict=True):
            for fires, found in zip(mask_row, picture_row, strict=True):
                if found is None:
                    continue
                of_category = any(category[label] == own for label in found)
                shows = shows or of_category
                meets = meets or (fires and of_category)
                active += fires
                in_concept += concept in found
                both += fires and concept in found
        if rule == "all":
            counted = True
        elif rule == "annotated":
            counted = own in known or shows
            if not counted:
                assert in_concept == both == 0
        else:
            counted = meets
        intersection += both
        concept_pixels += in_concept
        unit_pixels += active if counted else 0
    return intersection, unit_pixels + concept_pixels - intersection


def iou_under(rule, unit, labels, annotated, concept, category):
    intersection, union = counts_under(rule, unit, labels, annotated, concept, category)
    return intersection / union if union else 0.0


def formula_iou(unit, labels, annotated, holds, categories, category):
    """IoU of a unit with a formula over the images annotated for all of ``categories``; None where there are none.

    holds: from a set of labels to True where the formula holds.
    """
    intersection = union = images = 0
    for mask, picture, known in zip(unit, labels, annotated, strict=True):
        shown = {category[label] for row in picture for found in row if found is not None for label in found}
        if not set(categories) <= set(known) | shown:
            continue
        images += 1
        for mask_row, picture_row in zip(mask, picture, strict=True):
            for fires, found in zip(mask_row, picture_row, strict=True):
                if found is not None:
                    intersection += fires and holds(found)
                    union += fires or holds(found)
    if not images:
        return None
    return intersection / union if union else 0.0


def detectors(tables, threshold):
    """Count detectors in both ways; tables: per unit, category -> (label, IoU).

    Returns category -> [detectors, unique, detectors per category, unique per category].
    """
    names = sorted({category for table in tables for category in table})
    found = {}
    for name in names:
        first, first_labels, second, second_labels = 0, set(), 0, set()
        for table in tables:
            best = max(table, key=lambda category: table[category][1]) if table else None
            if best == name and table[best][1] > threshold:
                first += 1
                first_labels.add(table[best][0])
            if name in table and table[name][1] > threshold:
                second += 1
                second_labels.add(table[name][0])
        found[name] = [first, len(first_labels), second, len(second_labels)]
    return found
