"""The page evaluation.html of a model of organs: one file, no script, no outside resource."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from drmc.evaluation.organs import paper
from drmc.evaluation.organs.records import OrganEvaluation
from drmc.evaluation.organs.tables import Table, tables
from drmc.evaluation.records import Aim
from drmc.evaluation.tables import reached
from drmc.pages.markup import facts_list, section, table
from drmc.pages.page import page
from drmc.pages.text import plain
from drmc.texts import RESEARCH_USE

_STYLE = """
main { max-width: 1400px; } .pass { color: var(--series-2); font-weight: 650; }
td.wide { white-space: normal; text-align: left; min-width: 220px; }
td, th { padding: 3px 7px; }
"""
_OPEN = 5  # tables in sight; those behind are long and closed


def page_html(result: OrganEvaluation) -> str:
    """The whole page.

    Args:
        result: the content of evaluation.json.
    """
    made = list(tables(result))
    cards = [
        section("What was measured", _facts(result)),
        section("Aims", _aims(result["aims"])),
        *(section(escape(one.title), _table(one, result)) for one in made[:_OPEN]),
        *(
            section(
                escape(one.title), f"<details><summary>All organs</summary>{_table(one, result)}</details>"
            )
            for one in made[_OPEN:]
        ),
    ]
    return page(
        f"Organs: evaluation of {result['model']['name']}",
        "".join(cards),
        introduction=f"<p>{escape(result['sentence'])}</p>",
        banner=f"Simulated data. {RESEARCH_USE}",
        footer=f"drmc {result['version']}",
        style=_STYLE,
    )


def _facts(result: OrganEvaluation) -> str:
    patients = {
        anatomy: ", ".join(f"{center} {count}" for center, count in by_center.items())
        for anatomy, by_center in result["patients"].items()
    }
    known = result["known_centers"]
    entries = [
        ("Data", escape(result["data"])),
        ("Model", f"{escape(result['model']['name'])} <code>{result['model']['sha256']}</code>"),
        *((escape(anatomy.capitalize()), escape(text)) for anatomy, text in patients.items()),
        ("Centers of the training", "not stated" if known is None else escape(", ".join(known))),
        ("Template", "none" if result["template"] is None else escape(plain(result["template"]))),
        ("Computed on", escape(f"{result['device']} ({result['precision']})")),
        ("Seconds a scan", escape(plain(result["seconds"]))),
        ("Hardware", escape(plain(result["hardware"]))),
    ]
    return facts_list(entries)


def _aims(aims: Sequence[Aim]) -> str:
    outcomes = {
        True: '<td class="pass">pass</td>',
        False: '<td class="beyond">miss</td>',
        None: "<td>not assessed</td>",
    }
    lines = [
        f'<tr><td class="wide">{escape(aim["aim"])}</td><td>{reached(aim) or "–"}</td>'
        f'{outcomes[aim["passed"]]}<td class="wide">{escape(aim["detail"])}</td></tr>'
        for aim in aims
    ]
    head = '<th class="text">Aim</th><th>Reached</th><th>Outcome</th><th class="text">Detail</th>'
    return table(head, lines) + _note(paper.SHORT)


def _table(one: Table, result: OrganEvaluation) -> str:
    head = f'<th class="text">{escape(one.head[0])}</th>'
    head += "".join(f"<th>{escape(name)}</th>" for name in one.head[1:])
    lines = [
        f'<tr><td class="text">{escape(line[0])}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in line[1:])
        + "</tr>"
        for line in one.lines
    ]
    notes = [one.note] if one.note == result["sentence"] else [one.note, paper.SHORT]
    return table(head, lines) + _note(" ".join(notes))


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'
