"""The register of table properties in PostgreSQL's catalogs: what an online rewrite of a table does with each of them.

Every column of the catalogs that describe a table has one entry, and so has every reference to a table from another
catalog, for every known version of PostgreSQL. An entry says carried, irrelevant or blocker. A property without an
entry forbids a rewrite.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

REFERENCED = (
    "pg_attrdef",
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_index",
    "pg_namespace",
    "pg_trigger",
    "pg_type",
)
"""The catalogs to which others refer: a catalog that refers to one of them can describe a table."""


class Fate(Enum):
    """What an online rewrite does with a property."""

    CARRIED = "carried"
    IRRELEVANT = "irrelevant"
    BLOCKER = "blocker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One property: its catalog, its column, its fate.

    `why` says what carries it over or why it is irrelevant, or is the key of the blocker (blockers.BLOCKERS). `raw`:
    the comparison uses the value in the catalog; otherwise it uses a description of it, or nothing.
    """

    catalog: str
    column: str
    fate: Fate
    why: str
    raw: bool

    @property
    def name(self) -> str:
        """The qualified name of the column, as in SQL."""
        return f"{self.catalog}.{self.column}"


def _carried(by: str, columns: str) -> tuple[Fate, str, bool, str]:
    return Fate.CARRIED, by, True, columns


def _in_words(by: str, columns: str) -> tuple[Fate, str, bool, str]:
    return Fate.CARRIED, by, False, columns


def _irrelevant(reason: str, columns: str) -> tuple[Fate, str, bool, str]:
    return Fate.IRRELEVANT, reason, False, columns


def _blocker(key: str, columns: str) -> tuple[Fate, str, bool, str]:
    return Fate.BLOCKER, key, True, columns


def _blocked_elsewhere(key: str, columns: str) -> tuple[Fate, str, bool, str]:
    """Return a blocker whose column is not compared, because it may be stale or repeats another column."""
    return Fate.BLOCKER, key, False, columns


_COLUMNS = {
    "pg_class": (
        _carried("ALTER TABLE ... OWNER TO", "relowner"),
        _in_words("GRANT", "relacl"),
        _in_words("ALTER TABLE ... SET, and the definition of an index", "reloptions"),
        _carried("REPLICA IDENTITY", "relreplident"),
        _carried("CREATE TABLE and CREATE INDEX", "relkind"),
        _carried("default_tablespace while an index is built; of a table it is a blocker", "reltablespace"),
        _irrelevant("PostgreSQL's own number, file, or place of the table", "oid relfilenode reltype relrewrite"),
        _irrelevant("the name and the schema are what the swap changes", "relname relnamespace"),
        _irrelevant("what VACUUM and ANALYZE count", "relpages reltuples relallvisible relallfrozen"),
        _irrelevant("the age of the rows' transactions", "relfrozenxid relminmxid"),
        _irrelevant("counts columns or checks, which are compared one by one", "relnatts relchecks"),
        _irrelevant("the TOAST table is compared with the table", "reltoastrelid"),
        _irrelevant("says that there is an index; each is compared", "relhasindex"),
        _irrelevant("only PostgreSQL's own catalogs are shared", "relisshared"),
        _irrelevant("only a materialized view can lack its rows", "relispopulated"),
        _blocker("access_method", "relam"),
        _blocker("unlogged", "relpersistence"),
        _blocker("row_security", "relrowsecurity relforcerowsecurity"),
        _blocker("typed", "reloftype"),
        _blocker("inheritance", "relispartition"),
        _blocked_elsewhere("inheritance", "relhassubclass relpartbound"),
        _blocked_elsewhere("rule", "relhasrules"),
        _blocked_elsewhere("trigger", "relhastriggers"),
    ),
    "pg_attribute": (
        _carried("CREATE TABLE ... LIKE", "attname atttypid atttypmod attnotnull atthasdef attgenerated attcollation"),
        _carried("the type of the column", "attlen attbyval attalign"),
        _carried("LIKE ... INCLUDING STORAGE and COMPRESSION", "attstorage attcompression"),
        _carried("ALTER COLUMN ... SET STATISTICS, of a table and of an index", "attstattarget"),
        _in_words(
            "ALTER COLUMN ... SET, and the definition of an index, but for PostgreSQL's own (pg_...)", "attoptions"
        ),
        _in_words("GRANT", "attacl"),
        _in_words("the order of the columns", "attnum"),
        _irrelevant("PostgreSQL's own number of the table", "attrelid"),
        _irrelevant("PostgreSQL checks no dimensions, and LIKE leaves them out", "attndims"),
        _irrelevant("an offset in PostgreSQL's memory", "attcacheoff"),
        _irrelevant(
            "the value that rows from before ADD COLUMN lack; copied rows have it", "atthasmissing attmissingval"
        ),
        _irrelevant("dropped columns end with the old table", "attisdropped"),
        _irrelevant("only a foreign table has them", "attfdwoptions"),
        _blocker("sequence", "attidentity"),
        _blocked_elsewhere("inheritance", "attislocal attinhcount"),
    ),
    "pg_attrdef": (
        _in_words("LIKE ... INCLUDING DEFAULTS and GENERATED", "adbin"),
        _irrelevant("PostgreSQL's own numbers of the default and its column", "oid adrelid adnum"),
    ),
    "pg_index": (
        _carried(
            "the definition of the index",
            "indnatts indnkeyatts indisprimary indnullsnotdistinct indcollation indclass indoption",
        ),
        _in_words("the definition of the index, by the names of the columns", "indkey indexprs indpred"),
        _carried("CLUSTER ON", "indisclustered"),
        _carried("REPLICA IDENTITY USING INDEX", "indisreplident"),
        _in_words("CREATE INDEX: a new index is valid, as after a rewrite in place", "indisvalid indisready"),
        _irrelevant("PostgreSQL's own numbers of the index and its table", "indexrelid indrelid"),
        _irrelevant("which snapshots may use the index; nobody's is older than the copy", "indcheckxmin"),
        _blocker("unique_index", "indisunique"),
        _blocker("deferrable_key", "indimmediate"),
        _blocker("exclusion", "indisexclusion"),
        _blocked_elsewhere("dropped_index", "indislive"),
    ),
    "pg_constraint": (
        _carried("LIKE ... INCLUDING CONSTRAINTS, and ADD CONSTRAINT", "conname contype connoinherit"),
        _in_words("the constraint's definition, by the names of columns and indexes", "conkey conbin conindid"),
        _irrelevant("PostgreSQL's own numbers", "oid connamespace conrelid"),
        _irrelevant("only a domain's constraint has it", "contypid"),
        _blocker("foreign_key", "confrelid confupdtype confdeltype confmatchtype confkey"),
        _blocker("foreign_key", "conpfeqop conppeqop conffeqop confdelsetcols"),
        _blocker("not_validated", "convalidated conenforced"),
        _blocker("deferrable_key", "condeferrable condeferred"),
        _blocker("exclusion", "conexclop conperiod"),
        _blocked_elsewhere("inheritance", "conislocal coninhcount conparentid"),
    ),
    "pg_trigger": (
        _blocked_elsewhere("trigger", "oid tgrelid tgname tgfoid tgtype tgenabled tgisinternal tgnargs tgattr tgargs"),
        _blocked_elsewhere("trigger", "tgqual tgoldtable tgnewtable tgdeferrable tginitdeferred tgparentid"),
        _blocked_elsewhere("foreign_key", "tgconstrrelid tgconstrindid tgconstraint"),
    ),
    "pg_type": (
        _irrelevant(
            "of the row type, which PostgreSQL makes with the table",
            "oid typname typnamespace typowner typlen typbyval typtype typcategory typispreferred typisdefined typdelim"
            " typrelid typelem typarray typsubscript typinput typoutput typreceive typsend typmodin typmodout"
            " typanalyze typalign typstorage typcollation",
        ),
        _irrelevant("only a domain or a base type has it", "typnotnull typtypmod typndims typdefaultbin typdefault"),
        _blocked_elsewhere("row_type_rights", "typacl"),
        _blocked_elsewhere("dependent", "typbasetype"),
    ),
    "pg_publication": (
        _blocked_elsewhere(
            "publication", "oid pubname pubowner puballtables pubinsert pubupdate pubdelete pubtruncate"
        ),
        _blocked_elsewhere("publication", "pubviaroot pubgencols"),
    ),
    "pg_event_trigger": (
        _irrelevant(
            "what it does to the new table shows in the comparison, which refuses it",
            "oid evtname evtevent evtowner evtfoid evtenabled evttags",
        ),
    ),
}
_REFERENCES = {
    "pg_aggregate": (_blocked_elsewhere("dependent", "aggtranstype aggmtranstype"),),
    "pg_amop": (_blocked_elsewhere("dependent", "amoplefttype amoprighttype"),),
    "pg_amproc": (_blocked_elsewhere("dependent", "amproclefttype amprocrighttype"),),
    "pg_cast": (_blocked_elsewhere("dependent", "castsource casttarget"),),
    "pg_collation": (_irrelevant("another object in a schema", "collnamespace"),),
    "pg_conversion": (_irrelevant("another object in a schema", "connamespace"),),
    "pg_default_acl": (_irrelevant("for new objects; the new table gets the old one's rights", "defaclnamespace"),),
    "pg_depend": (
        _blocked_elsewhere("dependent", "classid refclassid objid refobjid objsubid refobjsubid"),
        _blocked_elsewhere("extension", "deptype"),
    ),
    "pg_description": (_in_words("COMMENT ON", "classoid objoid objsubid description"),),
    "pg_enum": (_irrelevant("a label of an enum type", "enumtypid"),),
    "pg_extension": (
        _blocked_elsewhere("extension", "extconfig"),
        _irrelevant("another object in a schema", "extnamespace"),
    ),
    "pg_foreign_table": (_irrelevant("a foreign table is never rewritten", "ftrelid"),),
    "pg_inherits": (_blocked_elsewhere("inheritance", "inhrelid inhparent"),),
    "pg_init_privs": (_blocked_elsewhere("initial_rights", "classoid objoid"),),
    "pg_opclass": (
        _blocked_elsewhere("dependent", "opcintype opckeytype"),
        _irrelevant("another object in a schema", "opcnamespace"),
    ),
    "pg_operator": (
        _blocked_elsewhere("dependent", "oprleft oprright oprresult"),
        _irrelevant("another object in a schema", "oprnamespace"),
    ),
    "pg_opfamily": (_irrelevant("another object in a schema", "opfnamespace"),),
    "pg_partitioned_table": (_irrelevant("a partitioned table is never rewritten", "partrelid partdefid partattrs"),),
    "pg_policy": (_blocked_elsewhere("policy", "polrelid"),),
    "pg_proc": (
        _blocked_elsewhere("dependent", "prorettype proargtypes proallargtypes protrftypes provariadic"),
        _irrelevant("another object in a schema", "pronamespace"),
    ),
    "pg_publication_namespace": (_blocked_elsewhere("publication", "pnnspid"),),
    "pg_publication_rel": (_blocked_elsewhere("publication", "prrelid"),),
    "pg_range": (_blocked_elsewhere("dependent", "rngtypid rngsubtype rngmultitypid"),),
    "pg_rewrite": (_blocked_elsewhere("rule", "ev_class"),),
    "pg_seclabel": (_blocked_elsewhere("label", "classoid objoid"),),
    "pg_sequence": (
        _blocked_elsewhere("sequence", "seqrelid"),
        _irrelevant("a number's type", "seqtypid"),
    ),
    "pg_shdepend": (_irrelevant("follows from owner, rights, policies and tablespace", "classid refclassid"),),
    "pg_shdescription": (_irrelevant("of roles, databases and tablespaces", "classoid"),),
    "pg_shseclabel": (_irrelevant("of roles, databases and tablespaces", "classoid"),),
    "pg_statistic": (_irrelevant("what ANALYZE counts, and does for the new table", "starelid staattnum"),),
    "pg_statistic_ext": (
        _blocked_elsewhere("statistics", "stxrelid stxkeys"),
        _irrelevant("another object in a schema", "stxnamespace"),
    ),
    "pg_subscription_rel": (_blocked_elsewhere("subscription", "srrelid"),),
    "pg_transform": (_blocked_elsewhere("dependent", "trftype"),),
    "pg_ts_config": (_irrelevant("another object in a schema", "cfgnamespace"),),
    "pg_ts_dict": (_irrelevant("another object in a schema", "dictnamespace"),),
    "pg_ts_parser": (_irrelevant("another object in a schema", "prsnamespace"),),
    "pg_ts_template": (_irrelevant("another object in a schema", "tmplnamespace"),),
}
CATALOGS = tuple(_COLUMNS)
"""The catalogs in which every column has an entry."""
REGISTER = tuple(
    Entry(catalog=catalog, column=column, fate=fate, why=why, raw=raw)
    for catalog, groups in (_COLUMNS | _REFERENCES).items()
    for fate, why, raw, columns in groups
    for column in columns.split()
)
"""All entries. No property has two."""


def left_out(catalog: str) -> list[str]:
    """Return the columns of a catalog whose raw values the comparison does not use."""
    return [entry.column for entry in REGISTER if entry.catalog == catalog and not entry.raw]
