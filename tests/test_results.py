"""Figures in the documents are those of the results in the repository."""

import re
from itertools import permutations
from pathlib import Path

import pytest
from processes import ROOT

from mamp_mmaction.evaluation.comparison import (
    estimate,
    independent,
    paired_difference,
)

RESULTS = ROOT / 'docs' / 'results'
# Words of the documents: rows of the tables by their columns and titles.
ROWS = {
    'small': {
        'random weights': 'mamp-none',
        'random': 'mamp-none',
        '60 epochs': 'recommended-union',
        '60': 'recommended-union',
        '300 epochs': 'long-union',
        '300': 'long-union',
        'reconstruction': 'mae-union',
        'MAMP': 'mamp-union',
        'recommended': 'recommended-union',
        'on itself': 'recommended-itself',
        'itself': 'recommended-itself',
        'all three': 'recommended-union',
        'on all three': 'recommended-union',
        'without pre-training': 'stgcnpp-none',
        'without': 'stgcnpp-none',
        'with pre-training': 'stgcnpp-union',
        'with': 'stgcnpp-union',
        'beside the labels': 'stgcnpp-auxiliary',
        'beside': 'stgcnpp-auxiliary',
    },
    'study': {
        'none': 'none',
        'the exact method': 'exact',
        '`pretrain-fast`': 'fast',
        'fast, `nat`': 'nat',
        'fast, `accel`': 'accel',
        'fast, `weighted`': 'weighted',
        'fast, `tube`': 'tube',
        'fast, `limb`': 'limb',
        'fast, `latent`': 'latent',
        'fast, three quarters masked': 'mask75',
        'the same, `weighted`: `pretrain-recommended`': 'recommended',
        'the same, turned by up to 1 radian about the vertical axis': 'turned',
        '`pretrain-recommended`, a rate of 3e-4': 'slow',
        '`pretrain-recommended`, five times as long: `pretrain-long`': 'long',
    },
}
MEASURES = {
    'nearest neighbours': 'knn',
    'logistic regression': 'linear',
    'logistic regression, 3 labels a class': 'linear-few',
    'fine-tuned, 3 labels a class': 'tuned-few',
    'fine-tuned, 10 % of the labels': 'tuned-10',
    'fine-tuned, all labels': 'tuned-all',
}


class Figures:
    """All results of a budget, and all differences of two rows."""

    def __init__(self, tool, name):
        self.tool = tool
        budget = tool.BUDGETS[name]
        cells = tool.plan(budget, Path('data'))
        file = RESULTS / f'{name}.json'
        # The results of other settings than the present ones are refused.
        results, _ = tool.read_results(cells, Path('none'), [file])
        self.measures = tool.collect(budget, cells, results)
        self.values = {}
        for measure in self.measures:
            key = measure['data'], measure['row'], measure['measure']
            self.values[key] = {
                tuple(map(int, re.findall(r'\d+', draw))): value
                for draw, value in measure['values'].items()
            }
        self.costs = tool.pretraining_costs(cells, results)

    def top1(self, *key):
        """As a cell of the table shows an accuracy."""
        values = self.values.get(key)
        return f'{estimate(independent(values)):.1f}' if values else '-'

    def difference(self, data, measure, row, other):
        """As a cell of the table shows a difference."""
        pair = [self.values.get((data, x, measure), {}) for x in (row, other)]
        found = paired_difference(*pair)
        return self.tool.show(found, 'difference') or '-'

    def all(self):
        """Every mean and every difference that has an error."""
        for data, row, measure in self.values:
            yield self.top1(data, row, measure)
        for (data, row, measure), other in permutations(self.values, 2):
            if (data, measure) == (other[0], other[2]):
                pair = self.values[data, row, measure], self.values[other]
                found = paired_difference(*pair)
                yield f'{found:.1f}' if found else '-'


def tables(path):
    """Each table of a document: its header, and its rows as dicts."""
    text = path.read_text()
    for block in re.findall(r'(?:^\|.*\|\n)+', text, re.MULTILINE):
        lines = [
            [cell.strip() for cell in line[1:-2].split(' | ')]
            for line in block.splitlines(keepends=True)
        ]
        header = lines[0]
        yield header, [dict(zip(header, line)) for line in lines[2:]]


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('reproduce_results')


@pytest.fixture(scope='module')
def figures(tool):
    return {name: Figures(tool, name) for name in ROWS}


def test_tables_of_the_quick_start(tool):
    measures = Figures(tool, 'quick').measures
    for table in tool.tables_of(tool.BUDGETS['quick'], measures, {}):
        assert table in (ROOT / 'docs' / 'results.md').read_text()


def test_tables_of_results(tool, figures):
    places = {data.title: name for name, data in tool.DATA.items()}
    places['mean of the three'] = tool.MEAN
    rows, found = ROWS['small'], figures['small']
    checked = 0
    for header, lines in tables(ROOT / 'docs' / 'results.md'):
        if header[0] != 'data set':
            continue
        for line in lines:
            data, measure = places[line['data set']], MEASURES[line['measure']]
            for column in header[2:]:
                if ' - ' in column:
                    names = [rows[x] for x in column.split(' - ')]
                    expected = found.difference(data, measure, *names)
                else:
                    expected = found.top1(data, rows[column], measure)
                assert line[column] == expected, (line, column)
                checked += 1
    assert checked > 100


def test_table_of_the_study(figures):
    found, checked = figures['study'], 0
    for header, lines in tables(ROOT / 'docs' / 'options.md'):
        if header[:2] != ['pre-training', 'cost']:
            continue
        for line in lines:
            row = ROWS['study'][line['pre-training']]
            expected = [line['pre-training'], found.costs.get(row, '-')]
            for measure in ('knn', 'linear', 'linear-few'):
                expected.append(found.top1('mean', row, measure))
            for measure in ('linear', 'linear-few'):
                pair = (row, 'exact') if row != 'exact' else ('', '')
                expected.append(found.difference('mean', measure, *pair))
            assert list(line.values()) == expected
            checked += 1
    assert checked == len(ROWS['study'])


@pytest.mark.parametrize(
    'path, name',
    [
        ('README.md', 'small'),
        ('docs/results.md', 'small'),
        ('docs/recognisers.md', 'small'),
        ('docs/options.md', 'study'),
    ],
)
def test_figures_in_sentences(figures, path, name):
    text = (ROOT / path).read_text()
    if path == 'docs/results.md':
        text = text[text.index('## Three data sets') :]
    known = set(figures[name].all())
    told = re.findall(r'(-?\d+\.\d)\s±\s(\d+\.\d)', text)
    assert told
    unknown = {f'{mean} ± {error}' for mean, error in told}
    unknown -= known | {figure.strip('*') for figure in known}
    assert not unknown, 'of no result in docs/results'
