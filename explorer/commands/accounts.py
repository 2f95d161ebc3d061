"""``voorwerp accounts``: who may log in to a survey, and as what."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from explorer.errors import UsageError
from explorer.people import ROLES, Role, article

if TYPE_CHECKING:
    from explorer.services.accounts import Accounts

SURVEY = click.option(
    "--survey", required=True, type=click.Path(path_type=Path), help="The survey folder that they may come in to."
)
ROLE = click.Choice(get_args(Role))
STDIN = click.option(
    "--stdin", is_flag=True, help="Read the password from standard input (one line) instead of asking."
)
OAUTH = click.option(
    "--oauth", is_flag=True, help="No password: NAME is who the provider's login says it is (see README)."
)


@click.group("accounts")
def group() -> None:
    """Who may log in to a survey. As soon as it has an account, `voorwerp serve` asks everybody to.

    \b
    viewer  looks at everything, and decides nothing
    vetter  grades, tags, notes, keeps selections and places, too
    owner   starts runs, makes campaigns and boundaries, and everything else

    What is changed here counts from the next request on, in a server that runs, too.
    """


@group.command()
@click.argument("name")
@click.option("--role", required=True, type=ROLE, help="What they may do.")
@SURVEY
@STDIN
@OAUTH
def add(name: str, role: Role, survey: Path, stdin: bool, oauth: bool) -> None:
    """Make an account. The password is asked for twice, and is never written on the command line."""
    accounts = accounts_of(survey)
    made = accounts.add(name, role, ask(stdin, oauth))
    click.echo(f"{made.name} may log in as {article(made.role)}: {ROLES[made.role]}")
    say_what_follows(accounts)


@group.command("list")
@SURVEY
def show(survey: Path) -> None:
    """List all accounts."""
    listed = accounts_of(survey).listed()
    width = max((len(account.name) for account in listed), default=0)
    for account in listed:
        by = "password" if account.hash else "provider's login"
        click.echo(f"{account.name:{width}}  {account.role:6}  {by:16}  made {account.made_at[:10]}")
    if not listed:
        click.echo("no accounts: whoever has the URL that `voorwerp serve` prints comes in, on this machine alone")


@group.command()
@click.argument("name")
@SURVEY
def remove(name: str, survey: Path) -> None:
    """Remove an account; its logins end at once. What they decided stays in the ledger."""
    accounts = accounts_of(survey)
    gone = accounts.remove(name)
    click.echo(f"{gone.name} has no account any more, and is logged out")
    say_what_follows(accounts)


@group.command()
@click.argument("name")
@SURVEY
@STDIN
@OAUTH
def password(name: str, survey: Path, stdin: bool, oauth: bool) -> None:
    """Set another password; logins made with the one before end at once."""
    accounts = accounts_of(survey)
    if accounts.of(name) is None:  # before one is thought of
        accounts.set_password(name, None)
    changed = accounts.set_password(name, ask(stdin, oauth))
    how = "comes by the provider's login" if oauth else "has another password"
    click.echo(f"{changed.name} {how}, and is logged out")


@group.command()
@click.argument("name")
@click.argument("to", type=ROLE)
@SURVEY
def role(name: str, to: Role, survey: Path) -> None:
    """Give an account another role, from its next request on."""
    accounts = accounts_of(survey)
    changed = accounts.set_role(name, to)
    click.echo(f"{changed.name} is {article(changed.role)} now: {ROLES[changed.role]}")
    say_what_follows(accounts)


def accounts_of(survey: Path) -> "Accounts":
    """The accounts of the survey in a folder."""
    from explorer.services.accounts import Accounts
    from explorer.survey import Survey

    opened = Survey.open(survey)
    opened.close()
    return Accounts(opened.info.survey_id)


def ask(stdin: bool, oauth: bool) -> str | None:
    """A password, typed twice or read; None for an account without one.

    Raises
    ------
    UsageError
        There is nobody to type it, or nothing to read.
    """
    if stdin and oauth:
        raise UsageError("an account has a password or a provider's login, not both: give --stdin or --oauth")
    if oauth:
        return None
    if stdin:
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            raise UsageError("standard input has no password; write it there as one line")
        return line
    if not is_terminal():
        raise UsageError("there is no terminal to type a password in; use --stdin")
    typed: str = click.prompt("Password", hide_input=True, confirmation_prompt="The same again")
    return typed


def say_what_follows(accounts: "Accounts") -> None:
    """What whoever changes accounts must know of those that are left."""
    left = accounts.listed()
    if not left:
        click.echo("There are no accounts any more: `voorwerp serve`, started anew, prints a URL to come in by.")
    elif not any(account.role == "owner" for account in left):
        click.echo("Nobody is an owner: runs, campaigns and boundaries are made from the command line alone.")


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()
