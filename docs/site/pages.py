"""Pages of the site that are no files in docs/: the README, CONTRIBUTING, and one page of API reference per room."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {'index.md': ROOT / 'README.md', 'contributing.md': ROOT / 'CONTRIBUTING.md'}
# A link in the text of a page, an image not included.
LINK = re.compile(r'(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)')


def rooms() -> dict[str, list[str]]:
    """Modules of the package by room, the folders of ``models``, ``engine`` and ``datasets`` each being one."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / 'mmmaskclip').rglob('*.py')):
        if path.name != '__init__.py' and '.mim' not in path.parts:
            parts = path.relative_to(ROOT).with_suffix('').parts
            found.setdefault('.'.join(parts[1:-1]) or 'mmmaskclip', []).append('.'.join(parts))
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for name, path in PAGES.items():
        files.append(File.generated(config, name, content=path.read_text(encoding='utf-8')))
    for room, modules in rooms().items():
        content = f'# {room}\n\n' + '\n\n'.join(f'::: {module}' for module in modules) + '\n'
        files.append(File.generated(config, f'api/{room}.md', content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links into the repository at the API reference; of what is not on the site keep the text alone."""
    known = {file.src_uri for file in files}
    source = PAGES.get(page.file.src_uri, ROOT / 'docs' / page.file.src_uri)

    def translate(match: re.Match) -> str:
        text, target = match.groups()
        file, _, anchor = target.partition('#')
        if re.match(r'[a-z]+:', target) or not file:
            return match[0]
        path = (source.parent / file).resolve()
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ''
        pages = {path.relative_to(ROOT).as_posix(): page for page, path in PAGES.items()}
        on_site = pages.get(name, name.removeprefix('docs/'))
        if on_site in known:
            return f'[{text}]({on_site}{"#" + anchor if anchor else ""})'
        if name.startswith('mmmaskclip/') and name.endswith('.py') and path.name != '__init__.py':
            module = name.removesuffix('.py').replace('/', '.')
            room = '.'.join(module.split('.')[1:-1]) or 'mmmaskclip'
            return f'[{text}](api/{room}.md#{module})'
        return text

    if page.file.src_uri.startswith('api/'):
        return markdown
    return LINK.sub(translate, markdown.replace('](docs/', '](') if source.name == 'README.md' else markdown)


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Put the pages of the API reference where the navigation names their folder."""
    pages = [file.page or Page(None, file, config) for file in files if file.src_uri.startswith('api/')]
    nav.items = [item for item in nav.items if isinstance(item, Section)] + [Section('API reference', pages)]
    nav.pages += pages
    return nav
