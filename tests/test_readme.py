"""What the documents name exists: commands, options, links and classes."""

import re
import shlex
import sys
from pathlib import Path

import mmaction
import mmengine
import pytest
from mmaction.registry import MODELS
from mmengine.config import Config
from processes import ROOT

import mamp_mmaction

TOOLS = ROOT / 'tools'
TOOLBOX = Path(mmaction.__path__[0], '.mim', 'tools')
README = ROOT / 'README.md'
DOCUMENTS = [README]
for _folder in ('docs', 'configs', 'tests'):
    DOCUMENTS += sorted((ROOT / _folder).rglob('*.md'))
# Not among the tools that users need.
OF_MAINTAINERS = {'benchmark_speed'}

every_document = pytest.mark.parametrize(
    'document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def read(document):
    return document.read_text(encoding='utf-8')


def blocks(document, language):
    """The contents of a document's blocks of code in a language."""
    return re.findall(
        rf'^```{language}\n(.*?)^```', read(document), re.M | re.S
    )


def prose(document):
    """A document without its blocks of code."""
    return re.sub(r'^```.*?^```', '', read(document), flags=re.M | re.S)


def code_in(text):
    return [' '.join(code.split()) for code in re.findall('`([^`]+)`', text)]


def commands(document):
    """The commands of a document, each as a list of words."""
    shell = '\n'.join(blocks(document, 'bash')).replace('\\\n', ' ')
    lines = code_in(prose(document)) + shell.splitlines()
    for name, value in re.findall(r'^(\w+)=(.+)$', shell, re.M):
        # What a command computes is where the toolbox lies.
        value = re.sub(r'\$\(.*\)', mmaction.__path__[0], value)
        lines = [re.sub(rf'\${name}\b', value, line) for line in lines]
    words = [words for line in lines for words in split_line(line)]
    return [w for w in words if w[0] in ('python', 'torchrun', 'mim')]


def split_line(line):
    """The words of each command of a line of the shell."""
    if not re.match(r'(python|torchrun|mim|pip) ', line):
        return []
    lexer = shlex.shlex(line, posix=True, punctuation_chars=';&|')
    lexer.whitespace_split = True
    found = [[]]
    for word in lexer:
        if word in (';', '&&', '|'):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


COMMANDS = [
    pytest.param(words, id=f'{document.name}: {shlex.join(words)[:60]}')
    for document in DOCUMENTS
    for words in commands(document)
]


@pytest.mark.parametrize('words', COMMANDS)
def test_commands_name_a_tool_and_its_options(words, load_tool, monkeypatch):
    """A command is understood by the tool; nothing is run."""
    whole = words[1:3] == ['-m', 'pytest'] or words[-1] == 'mamp_mmaction'
    if whole or 'TOOL' in words:
        return
    script, words = find_script(words)
    # Of {a,b} and FILE... a user types one.
    words = [re.sub('{([^,}]*),[^}]*}', r'\1', word) for word in words]
    words = [word.removesuffix('...') for word in words if word != '...']
    for word in words:
        assert not word.startswith('configs/') or (ROOT / word).exists()
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'argv', [str(script), *words])
    monkeypatch.setenv('LOCAL_RANK', '0')  # the toolbox's would leave it set
    load_tool(script.with_suffix('')).parse_args()


def find_script(words):
    """The script that a command runs, and what follows it."""
    if 'mamp_mmaction' in words:  # python -m mamp_mmaction TOOL
        _, *words = words[words.index('mamp_mmaction') :]
        name = f'{words[0].removesuffix(".py")}.py'
        places = [TOOLS / name, *TOOLBOX.rglob(name), TOOLBOX / name]
    else:
        while not words[0].endswith('.py'):
            words = words[1:]
        places = [ROOT / words[0]]
    found = [path for path in places if path.is_file()]
    assert found, f'no script {words[0]}'
    return found[0], words[1:]


@every_document
def test_configs_build(document):
    for text in blocks(document, 'python'):
        if re.match(r'# \w+\.py\n', text):
            continue  # A file that needs others: see test_configs.py.
        config = Config.fromstring(text, '.py')
        if 'model' in config:
            MODELS.build(config.model)


def anchors(document):
    """The anchors that a page shows for a document's headings."""
    headings = re.findall(r'^#+ (.*)$', prose(document), re.M)
    kept = [re.sub(r'[^\w\- ]', '', heading.lower()) for heading in headings]
    return [heading.replace(' ', '-') for heading in kept]


@every_document
def test_links_resolve_within_the_project(document):
    for link in re.findall(r'\[[^\]]*\]\(([^)\s]+)\)', prose(document)):
        if '://' in link:
            continue
        path, _, anchor = link.partition('#')
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@every_document
def test_paths_exist(document):
    """Paths from the project's root, or the toolbox's; none of a machine."""
    text = read(document)
    folders = 'mamp_mmaction|configs|tools|tests|docs'
    for path in re.findall(rf'(?<![\w/.])(?:{folders})/[\w./-]*\w', text):
        assert (ROOT / path).exists() or (TOOLBOX.parent / path).exists(), path
    assert not re.findall(r'(?<![\w.~)/:])/(?:home|root|tmp|work)/', text)


@every_document
def test_classes_exist(document, classes):
    words = set(re.findall(r'\b[A-Z]\w+', ' '.join(code_in(prose(document)))))
    named = {word for word in words if re.search('[a-z][A-Z]', word)}
    assert named <= classes


@pytest.fixture(scope='module')
def classes():
    """Names of the classes and functions of the package and the toolbox."""
    found = set()
    for package in (mamp_mmaction, mmaction, mmengine):
        for path in Path(package.__path__[0]).rglob('*.py'):
            text = path.read_text(encoding='utf-8')
            found |= set(re.findall(r'^(?:class|def) (\w+)', text, re.M))
    return found


def test_error_messages_are_those_of_the_code():
    """Each part of a message, between ``...``, is in some module."""
    _, table = read(ROOT / 'docs' / 'toolbox.md').split(
        '\n## Error messages\n'
    )
    cells = re.findall(r'^\| `(.+?)` \|', table, re.M)
    parts = {part.strip(' ;') for cell in cells for part in cell.split('...')}
    assert len(cells) > 10
    for package in (mamp_mmaction, mmengine.registry):
        for path in Path(package.__path__[0]).rglob('*.py'):
            text = path.read_text(encoding='utf-8')
            # One literal over several lines.
            text = re.sub(r"""['"]\s*\n\s*f?['"]""", '', text)
            parts = {part for part in parts if part not in text}
    assert not parts


def test_tables_list_the_tools():
    """Those whose heading begins with `tool` hold every tool once."""
    listed, in_table = [], False
    for line in prose(ROOT / 'docs' / 'tools.md').splitlines():
        cell = line.removeprefix('|').partition('|')[0].strip()
        if not line.startswith('|'):
            in_table = False
        elif cell.startswith('tool'):
            in_table = True
        elif in_table and '`' in cell:
            command = re.sub(r'python( -m mamp_mmaction)?', '', cell)
            listed.append(Path(code_in(command)[0].split()[0]).stem)
    assert len(listed) == len(set(listed))
    tools = {path.stem for path in TOOLS.rglob('*.py')}
    assert set(listed) - OF_MAINTAINERS == tools - OF_MAINTAINERS
