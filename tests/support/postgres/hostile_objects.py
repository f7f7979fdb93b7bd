"""Operators, functions, types and tables that somebody else plants where our statements could find them.

CVE-2018-1058: whoever may create in a schema of the search_path runs code as the role whose statement picks his object.
"""

import ast
import re
from pathlib import Path

from psycopg import sql

import schema_migrator
from support.postgres.engine import Connection

TYPES = (
    *("text", "name", "oid", "int2", "int4", "int8", "float8", "numeric", "bool", '"char"', "bpchar", "varchar"),
    *("regclass", "timestamptz", "interval", "pg_lsn", "xid", "text[]", "name[]", "oid[]"),
)
OPERATORS = ("=", "<>", "<", ">", "<=", ">=", "||", "+", "-", "*", "/", "~", "~~", "->>")
TRAP = """
CREATE SEQUENCE public.traps;
GRANT USAGE ON SEQUENCE public.traps TO public;
CREATE FUNCTION public.trap(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN
  PERFORM nextval('public.traps');
  RAISE LOG 'trapped: %', what;
  IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
    EXECUTE format('ALTER ROLE %I SUPERUSER', {planter});
  END IF;
END $$;
"""
PLANT_OPERATORS = """
DO $do$ DECLARE l text; r text; o text; BEGIN
  FOREACH l IN ARRAY {types}::text[] LOOP FOREACH r IN ARRAY {types}::text[] LOOP
    EXECUTE format('CREATE FUNCTION public.planted_bool(%s, %s) RETURNS bool LANGUAGE plpgsql
      SET search_path = pg_catalog AS $$ BEGIN PERFORM public.trap(%L);
      RETURN true; END $$', l, r, 'operator of ' || l || ' and ' || r);
    EXECUTE format('CREATE FUNCTION public.planted_text(%s, %s) RETURNS text LANGUAGE plpgsql
      SET search_path = pg_catalog AS $$ BEGIN PERFORM public.trap(%L);
      RETURN $1::text || $2::text; END $$', l, r, 'operator of ' || l || ' and ' || r);
    CONTINUE WHEN strpos(l || r, '[') > 0;  -- a query that breaks instead springs nothing
    FOREACH o IN ARRAY {operators}::text[] LOOP
      CONTINUE WHEN EXISTS (SELECT FROM pg_operator
        WHERE oprname = o AND oprleft = l::regtype AND oprright = r::regtype);
      EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.planted_%s)', o, l, r,
        CASE WHEN o IN ('||', '->>', '+', '-', '*', '/') THEN 'text' ELSE 'bool' END);
    END LOOP;
  END LOOP; END LOOP;
END $do$
"""
# Each overload of a function that our statements call, with each of its arguments of each other type.
PLANT_FUNCTIONS = """
DO $do$ DECLARE f record; t text; i int; args text[]; made text; BEGIN
  FOR f IN SELECT p.proname, p.proargtypes::oid[] AS types, p.pronargs FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a') AND p.pronargs > 0
      AND p.proname = ANY ({names}::text[])
  LOOP FOR i IN 0 .. f.pronargs - 1 LOOP FOREACH t IN ARRAY {types}::text[] LOOP
    args := ARRAY(SELECT format_type(a, NULL) FROM unnest(f.types) WITH ORDINALITY u(a, place) ORDER BY place);
    args[i + 1] := t;
    CONTINUE WHEN EXISTS (SELECT FROM unnest(args) a WHERE a ~ 'any|internal|record|unknown|cstring');
    made := format('public.%I(%s)', f.proname, array_to_string(args, ', '));
    CONTINUE WHEN to_regprocedure(format('pg_catalog.%I(%s)', f.proname, array_to_string(args, ', '))) IS NOT NULL
      OR to_regprocedure(made) IS NOT NULL;
    EXECUTE format('CREATE FUNCTION %s RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog
      AS $$ BEGIN PERFORM public.trap(%L); RETURN ''0''; END $$', made, made);
  END LOOP; END LOOP; END LOOP;
END $do$
"""
RELATIONS = (
    *("pg_class", "pg_namespace", "pg_settings", "pg_locks", "pg_stat_activity", "pg_index", "pg_attribute"),
    *("pg_trigger", "pg_depend", "pg_database", "pg_roles", "pg_constraint", "pg_proc", "schema_migrator_shadow"),
    *("log", "batches"),
)
FUNCTION_CALL = re.compile(r"\b([a-z][a-z0-9_]*)\s*\(")


def called_functions() -> list[str]:
    """Return every name that our statements could call: each word before a parenthesis in a text of the program."""
    names: set[str] = set()
    for path in Path(schema_migrator.__file__).parent.glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.update(FUNCTION_CALL.findall(node.value.lower()))
    return sorted(names)


def plant(connection: Connection, planter: str) -> None:
    """Plant everything in `public` as the role that is connected, which may create there."""
    connection.execute(sql.SQL(TRAP).format(planter=sql.Literal(planter)))
    values = {"types": list(TYPES), "operators": list(OPERATORS), "names": called_functions()}
    literals = {name: sql.Literal(value) for name, value in values.items()}
    for statement in (PLANT_OPERATORS, PLANT_FUNCTIONS):
        connection.execute(sql.SQL(statement).format(**literals))
    for name in RELATIONS:
        table = sql.SQL("CREATE VIEW {} AS SELECT public.trap({})::text AS trap, 'none'::name AS relname")
        connection.execute(table.format(sql.Identifier("public", name), sql.Literal(f"relation {name}")))


def sprung(connection: Connection) -> bool:
    """Return whether anything that was planted has run; what rolls back is seen too."""
    return connection.execute("SELECT is_called FROM public.traps").fetchone() == (True,)
