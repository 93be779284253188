"""`mindarmour completion`: a script that completes commands and flags in the shell."""
from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

_SCRIPT = """_mindarmour() {{
  local words="" path="${{COMP_WORDS[*]:1:COMP_CWORD-1}}"
  case "$path" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _mindarmour mindarmour"""


def add(commands: Any, build_parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("completion", help="script for shell completion",
                                 description='Print a script for the shell: eval "$(mindarmour completion bash)".')
    parser.add_argument("shell", choices=("bash", "zsh"), help="which shell")
    parser.set_defaults(run=lambda arguments: _run(arguments, build_parser()), parser=parser)


def _run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    # the longest path first, since the first pattern that fits is taken
    paths = sorted(_words(parser, ""), key=lambda item: -len(item[0]))
    cases = "\n".join(f'    "{path}"*) words="{" ".join(words)}" ;;' for path, words in paths)
    if arguments.shell == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    print(_SCRIPT.format(cases=cases))
    return 0


def _words(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the words that may follow it."""
    words = []
    for action in parser._actions:  # argparse has no public way to read a parser
        words.extend(option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            words.extend(action.choices)
            for name, child in action.choices.items():
                yield from _words(child, f"{path} {name}".strip())
    yield path, words
