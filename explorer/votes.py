"""What volunteers said, as files of the survey: single votes, totals, gold labels, Talk, and the columns made of them.

::

    classifications.parquet   one row per classification, subject, task and answer; in the order in which they were made
    totals.parquet            what others have reduced already: k of n per subject, workflow, task and answer
    gold.parquet              subjects whose answer is known
    experience.parquet        how much volunteers have done elsewhere
    talk_tags.parquet, talk_comments.parquet
    set_aside.parquet         every row of a source that could not be taken: file, line, reason
    sources.json              the files that were taken, by their sha256
    consensus.parquet         one row per subject, workflow, task and answer: made of the first two, and our own votes
    volunteers.parquet        one row per volunteer: skill, contribution, experience
    crowd.parquet             row i is subject i: the chosen question's consensus and Talk as columns of the survey

The last three are caches; `explorer.services.volunteers` makes them. A volunteer is a salted hash, never a name.
"""

import hashlib
import hmac
from collections.abc import Iterable

import pyarrow as pa

from explorer.secret import secret_of

CLASSIFICATIONS = "classifications.parquet"
TOTALS = "totals.parquet"
GOLD = "gold.parquet"
EXPERIENCE = "experience.parquet"
TALK_TAGS = "talk_tags.parquet"
TALK_COMMENTS = "talk_comments.parquet"
SET_ASIDE = "set_aside.parquet"
SOURCES = "sources.json"
CONSENSUS = "consensus.parquet"
VOLUNTEERS = "volunteers.parquet"
CROWD = "crowd.parquet"
#: Row i is subject i: what experts graded in campaigns that are told, as columns of the survey. A cache of the ledger.
GRADES = "grades.parquet"
TAG_GROUPS = "tag_groups.toml"

#: Files of this module that are data, and those that are made of them.
FILES = (CLASSIFICATIONS, TOTALS, GOLD, EXPERIENCE, TALK_TAGS, TALK_COMMENTS, SET_ASIDE, SOURCES, TAG_GROUPS)
CACHES = (CONSENSUS, VOLUNTEERS, CROWD)

#: Workflow of votes that name none (flat tables), and of those cast on our own page. Zooniverse's are positive.
NO_WORKFLOW = 0
OWN_WORKFLOW = -1
#: The task of our own page and of the study's grid, and the answer of who clicked on a subject.
GRID_TASK = "T0"
CHOSEN = "chosen"
#: Name of the secret that volunteers' names are hashed with.
SALT = "salt"

_WORD = pa.dictionary(pa.int32(), pa.string())
_ID = {"kind": "id"}

CLASSIFICATIONS_SCHEMA = pa.schema(
    [
        pa.field("classification_id", pa.int64(), metadata=_ID),
        pa.field("subject_id", pa.int64(), metadata=_ID),  # the survey's own
        pa.field("workflow_id", pa.int64(), metadata=_ID),
        pa.field("workflow_version", _WORD),
        pa.field("task", _WORD),
        pa.field("answer", _WORD),  # "": seen, and nothing chosen; several rows: several answers
        pa.field("volunteer", _WORD),
        pa.field("created_at", pa.timestamp("us", "UTC")),
        pa.field("seconds", pa.float32(), metadata={"unit": "s"}),
        pa.field("is_anonymous", pa.bool_()),
        pa.field("is_live", pa.bool_()),  # null where the source does not say, here and below
        pa.field("is_gold", pa.bool_()),  # a gold-standard answer, of an expert
        pa.field("is_repeat", pa.bool_()),  # already seen, or the volunteer had finished the workflow
        pa.field("is_simulated", pa.bool_()),
        pa.field("source", _WORD),  # the first 16 digits of the file's sha256
    ]
)
TOTALS_SCHEMA = pa.schema(
    [
        pa.field("subject_id", pa.int64(), metadata=_ID),
        pa.field("workflow_id", pa.int64(), metadata=_ID),
        pa.field("task", _WORD),
        pa.field("answer", _WORD),
        pa.field("n_classifications", pa.int64()),  # views
        pa.field("n_volunteers", pa.int64()),  # null: unknown
        pa.field("n_chosen", pa.int64()),  # of the views
        pa.field("n_chosen_volunteers", pa.int64()),  # null: unknown
        pa.field("source", _WORD),
    ]
)
GOLD_SCHEMA = pa.schema(
    [
        pa.field("subject_id", pa.int64(), metadata=_ID),
        pa.field("workflow_id", pa.int64(), metadata=_ID),
        pa.field("task", _WORD),
        pa.field("answer", _WORD),  # the true one; "" where none is right (a dud)
        pa.field("source", _WORD),
    ]
)
EXPERIENCE_SCHEMA = pa.schema(
    [
        pa.field("volunteer", pa.string()),
        pa.field("n_elsewhere", pa.int64()),  # classifications in another project
        pa.field("source", _WORD),
    ]
)
TALK_TAGS_SCHEMA = pa.schema(
    [
        pa.field("subject_id", pa.int64(), metadata=_ID),
        pa.field("tag", _WORD),  # as it was written, in lower case
        pa.field("tag_group", _WORD),
        pa.field("tag_group_study", _WORD),  # null where the study's grouping has none
        pa.field("volunteer", _WORD),
        pa.field("created_at", pa.timestamp("us", "UTC")),
        pa.field("tag_id", pa.int64(), metadata=_ID),  # Talk's own: null where the export has none
        pa.field("source", _WORD),
    ]
)
TALK_COMMENTS_SCHEMA = pa.schema(
    [
        pa.field("comment_id", pa.int64(), metadata=_ID),
        pa.field("subject_id", pa.int64(), metadata=_ID),
        pa.field("volunteer", _WORD),
        pa.field("created_at", pa.timestamp("us", "UTC")),
        pa.field("board", _WORD),
        pa.field("discussion", pa.string()),
        pa.field("text", pa.string()),
        pa.field("source", _WORD),
    ]
)
SET_ASIDE_SCHEMA = pa.schema(
    [
        pa.field("file", _WORD),  # its name, without folders
        pa.field("line", pa.int64()),  # from 1; of JSON, the element
        pa.field("id", pa.string()),  # of the classification, comment or subject, as written; never a person's
        pa.field("reason", _WORD),
        pa.field("source", _WORD),
    ]
)
CONSENSUS_SCHEMA = pa.schema(
    [
        *(TOTALS_SCHEMA.field(name) for name in ("subject_id", "workflow_id", "task", "answer")),
        pa.field("n_classifications", pa.int64()),
        pa.field("n_volunteers", pa.int64()),
        pa.field("n_chosen", pa.int64()),
        pa.field("n_chosen_volunteers", pa.int64()),
        pa.field("fraction_basis", _WORD),  # "views" or "volunteers": of both, numerator and denominator
        pa.field("chosen_fraction", pa.float32()),
        pa.field("chosen_low", pa.float32()),  # 95 % of the Beta posterior, Jeffreys' prior
        pa.field("chosen_high", pa.float32()),
        pa.field("entropy", pa.float32(), metadata={"unit": "bit"}),  # of the answers of that task
        pa.field("weighted_chosen_fraction", pa.float32()),  # null where single votes are not known
        pa.field("weighted_low", pa.float32()),
        pa.field("weighted_high", pa.float32()),
        pa.field("n_effective", pa.float32()),  # (Σw)² / Σw²
        pa.field("is_simulated", pa.bool_()),
    ]
)
VOLUNTEERS_SCHEMA = pa.schema(
    [
        pa.field("volunteer", pa.string()),
        pa.field("n_classifications", pa.int64()),
        pa.field("n_subjects", pa.int64()),
        pa.field("n_gold", pa.int64()),  # subjects of known answer among them
        pa.field("n_elsewhere", pa.int64()),  # null: unknown
        pa.field("p_chosen", pa.float32()),  # P("chosen" | worth choosing)
        pa.field("p_passed", pa.float32()),  # P("not chosen" | not worth it)
        pa.field("skill", pa.float32(), metadata={"unit": "bit"}),
        pa.field("contribution", pa.float32(), metadata={"unit": "bit"}),
        pa.field("is_anonymous", pa.bool_()),
        pa.field("is_simulated", pa.bool_()),
    ]
)
#: What every file of votes holds.
SCHEMAS = {
    CLASSIFICATIONS: CLASSIFICATIONS_SCHEMA,
    TOTALS: TOTALS_SCHEMA,
    GOLD: GOLD_SCHEMA,
    EXPERIENCE: EXPERIENCE_SCHEMA,
    TALK_TAGS: TALK_TAGS_SCHEMA,
    TALK_COMMENTS: TALK_COMMENTS_SCHEMA,
    SET_ASIDE: SET_ASIDE_SCHEMA,
    CONSENSUS: CONSENSUS_SCHEMA,
    VOLUNTEERS: VOLUNTEERS_SCHEMA,
}


def volunteer_hash(names: Iterable[str], survey_id: str) -> list[str]:
    """What volunteers are called in a survey's files: 16 hexadecimal digits, the same name always the same.

    Parameters
    ----------
    names
        Login names, in any case. Anonymous sessions keep what tells one from another (``not-logged-in-…``).

    Raises
    ------
    SurveyError
        Others may read the salt.
    """
    salt = secret_of(survey_id, SALT).encode()
    return [hmac.new(salt, name.strip().lower().encode(), hashlib.sha256).hexdigest()[:16] for name in names]
