//! Pure. The questions to a server's catalogue. All are answered to a user without privileges, by PostgreSQL 13 to 18.

/// First oid that PostgreSQL gives to what users make. What is below came with the server.
///
/// Source: `FirstNormalObjectId` in `access/transam.h`.
pub(super) const FIRST_USER_OID: u32 = 16384;

/// Most functions that are asked for. The rest is unknown, which makes its calls writes.
pub(super) const MOST_FUNCTIONS: usize = 100_000;

/// Most relations, types and operators that are asked for. With more of them nothing is taken for a read.
pub(super) const MOST_HAZARDS: usize = 20_000;

/// All questions see one state, and names mean PostgreSQL's own whatever path the connection has.
pub(super) const BEGIN: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path TO pg_catalog";

/// See [`BEGIN`].
pub(super) const END: &str = "ROLLBACK";

/// PostgreSQL's own functions: oid, name, whether it is volatile. Overloads are many rows.
pub(super) const BUILT_IN: &str = "SELECT oid, proname, provolatile = 'v' FROM pg_proc \
     WHERE pronamespace = 'pg_catalog'::regnamespace AND oid < 16384 AND prokind <> 'p'";

/// What changes when anything changes that [`functions`] or [`hazards`] tell. Deletions change the counts, and
/// everything else the sum of the transaction numbers.
pub(super) const MARK: &str = "SELECT concat_ws(' ', \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_proc WHERE oid >= 16384), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_namespace WHERE oid >= 16384), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_operator WHERE oid >= 16384), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_amproc WHERE oid >= 16384), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_cast WHERE oid >= 16384), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_rewrite WHERE oid >= 16384), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_policy), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_trigger WHERE NOT tgisinternal), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_event_trigger), \
     (SELECT concat_ws(':', count(*), sum(objid::bigint)) FROM pg_depend \
       WHERE refclassid = 'pg_proc'::regclass AND refobjid >= 16384 \
         AND classid IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_class'::regclass)), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_constraint WHERE contypid <> 0), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_type \
       WHERE oid >= 16384 AND typrelid = 0 AND typcategory <> 'A'), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_class \
       WHERE relpersistence = 'u' AND relkind IN ('r', 'p', 'S')), \
     (SELECT concat_ws(':', count(*), sum(xmin::text::bigint)) FROM pg_inherits))";

/// Source of a function that may leave something behind in its session: what no transaction undoes, or what cannot be
/// read from it.
const LEAVES: &str = "set_config|\\mpg_temp\\M|\\mtemp(orary)?\\M|advisory_lock|with\\s+hold|dblink_connect|setseed|\\mexecute\\M\
     |(^|;|\\mbegin\\M|\\mthen\\M|\\melse\\M|\\mloop\\M)\\s*(set|reset|listen|prepare|discard|load)\\M";

/// Of so many functions the sources are searched for names of others. Of more, any may call any.
const FEW_FUNCTIONS: usize = 1000;

/// Whether something that no text names runs such a function, or one that calls it: `a` where a statement that reads may
/// (views, policies, types, operators, casts), `w` where one that writes may (triggers, defaults, checks), else `n`.
pub(super) fn hidden() -> String {
    format!(
        "WITH RECURSIVE mine (oid, name, source, leaves) AS MATERIALIZED ( \
           SELECT p.oid, lower(p.proname), lower(p.prosrc), \
                  l.lanname NOT IN ('plpgsql', 'sql') OR p.prosrc = '' OR p.prosrc ~* $hawser${LEAVES}$hawser$ \
             FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang \
            WHERE p.oid >= {FIRST_USER_OID} AND l.lanname NOT IN ('internal', 'c')), \
         all_of_them (are_few, any_leaves) AS MATERIALIZED ( \
           SELECT count(*) <= {FEW_FUNCTIONS}, bool_or(leaves) FROM mine), \
         leaving (oid, name) AS ( \
           SELECT oid, name FROM mine WHERE leaves \
           UNION \
           SELECT m.oid, m.name FROM leaving l JOIN mine m ON strpos(m.source, l.name) > 0 \
            WHERE (SELECT are_few FROM all_of_them)), \
         running (oid) AS ( \
           SELECT oid FROM leaving \
           UNION ALL \
           SELECT oid FROM mine WHERE (SELECT any_leaves AND NOT are_few FROM all_of_them)), \
         user_of (class, object) AS ( \
           SELECT d.classid, d.objid FROM pg_depend d JOIN running r \
             ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = r.oid) \
         SELECT CASE \
           WHEN EXISTS (SELECT FROM user_of u LEFT JOIN pg_constraint c ON u.class = 'pg_constraint'::regclass \
                           AND c.oid = u.object WHERE c.contypid <> 0 OR u.class IN ('pg_rewrite'::regclass, \
                           'pg_policy'::regclass, 'pg_operator'::regclass, 'pg_cast'::regclass, 'pg_type'::regclass)) \
             THEN 'a' \
           WHEN EXISTS (SELECT FROM pg_trigger t JOIN running r ON r.oid = t.tgfoid WHERE NOT t.tgisinternal) \
             OR EXISTS (SELECT FROM pg_event_trigger t JOIN running r ON r.oid = t.evtfoid) \
             OR EXISTS (SELECT FROM user_of u WHERE u.class IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, \
                           'pg_class'::regclass)) \
             THEN 'w' \
           ELSE 'n' END"
    )
}

/// Functions of users and of the information schema: schema, name, kind (r: reads, w: writes), whether one argument is
/// enough and not too many, whether PostgreSQL has a function of the same name and arguments.
///
/// An aggregate is as volatile as what it calls: its own mark is always "immutable". `primary` are oids of
/// PostgreSQL's own functions that need the primary.
pub(super) fn functions(primary: &[u32]) -> String {
    format!(
        "SELECT n.nspname, p.proname, \
         CASE WHEN p.prokind = 'a' THEN w.oid IS NOT NULL ELSE p.provolatile = 'v' END, \
         p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1, \
         EXISTS (SELECT FROM pg_proc b WHERE b.proname = p.proname AND b.proargtypes = p.proargtypes \
                    AND b.pronamespace = 'pg_catalog'::regnamespace AND b.oid <> p.oid) \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace LEFT JOIN ( \
           SELECT DISTINCT a.aggfnoid::oid FROM pg_aggregate a, LATERAL (VALUES (a.aggtransfn::oid), (a.aggfinalfn), \
                  (a.aggcombinefn), (a.aggserialfn), (a.aggdeserialfn), (a.aggmtransfn), (a.aggminvtransfn), \
                  (a.aggmfinalfn)) AS f (oid) JOIN pg_proc s ON s.oid = f.oid \
            WHERE a.aggfnoid >= {FIRST_USER_OID} \
              AND (s.provolatile = 'v' AND s.oid >= {FIRST_USER_OID} OR s.oid = ANY ('{oids}'))) AS w (oid) \
           ON w.oid = p.oid \
         WHERE p.prokind <> 'p' AND (p.oid >= {FIRST_USER_OID} OR n.nspname <> 'pg_catalog') \
         LIMIT {limit}",
        oids = array(primary),
        limit = MOST_FUNCTIONS + 1
    )
}

/// What needs what: views, policies, domains, types, operators and aggregates, one row for each thing that they need.
fn edges() -> String {
    format!(
        "WITH RECURSIVE edge (class, object, needed_class, needed) AS MATERIALIZED ( \
           SELECT 'pg_class'::regclass::oid, r.ev_class, d.refclassid, d.refobjid \
             FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v' \
             JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid \
            WHERE r.ev_type = '1' AND r.oid >= {FIRST_USER_OID} \
           UNION ALL \
           SELECT 'pg_class'::regclass, p.polrelid, d.refclassid, d.refobjid \
             FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid \
            WHERE (d.refclassid, d.refobjid) <> ('pg_class'::regclass::oid, p.polrelid) \
           UNION ALL \
           SELECT 'pg_class'::regclass, inhparent, 'pg_class'::regclass, inhrelid FROM pg_inherits \
           UNION ALL \
           SELECT 'pg_type'::regclass, c.contypid, d.refclassid, d.refobjid \
             FROM pg_constraint c JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid \
            WHERE c.contypid <> 0 AND (d.refclassid, d.refobjid) <> ('pg_type'::regclass::oid, c.contypid) \
           UNION ALL \
           SELECT 'pg_type'::regclass, t.oid, n.class, n.object FROM pg_type t, LATERAL (VALUES \
             ('pg_type'::regclass, t.typbasetype), ('pg_type'::regclass, t.typelem), \
             ('pg_proc'::regclass, t.typinput::oid), ('pg_proc'::regclass, t.typoutput::oid), \
             ('pg_proc'::regclass, t.typmodin::oid)) AS n (class, object) \
            WHERE t.oid >= {FIRST_USER_OID} AND n.object >= {FIRST_USER_OID} \
           UNION ALL \
           SELECT 'pg_type'::regclass, c.reltype, 'pg_type'::regclass, a.atttypid \
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.atttypid >= {FIRST_USER_OID} \
            WHERE c.relkind = 'c' \
           UNION ALL \
           SELECT 'pg_type'::regclass, r.rngtypid, 'pg_proc'::regclass, f.oid \
             FROM pg_range r, LATERAL (VALUES (r.rngcanonical::oid), (r.rngsubdiff::oid)) AS f (oid) \
            WHERE f.oid >= {FIRST_USER_OID} \
           UNION ALL \
           SELECT 'pg_type'::regclass, c.casttarget, 'pg_proc'::regclass, c.castfunc FROM pg_cast c \
            WHERE c.oid >= {FIRST_USER_OID} AND c.castfunc >= {FIRST_USER_OID} \
           UNION ALL \
           SELECT 'pg_operator'::regclass, o.oid, 'pg_proc'::regclass, o.oprcode FROM pg_operator o \
            WHERE o.oid >= {FIRST_USER_OID} \
           UNION ALL \
           SELECT 'pg_proc'::regclass, a.aggfnoid, 'pg_proc'::regclass, f.oid \
             FROM pg_aggregate a, LATERAL (VALUES (a.aggtransfn::oid), (a.aggfinalfn), (a.aggcombinefn), \
                  (a.aggserialfn), (a.aggdeserialfn), (a.aggmtransfn), (a.aggminvtransfn), (a.aggmfinalfn)) AS f (oid) \
            WHERE a.aggfnoid >= {FIRST_USER_OID} AND f.oid <> 0)"
    )
}

/// What reaches a volatile function without a call that one can see: kind (v: view, u: unlogged, t: type,
/// o: operator, s: comparison of a type) and name.
///
/// A volatile implicit cast can be meant only where a value of its target is wanted: by a relation that has a column of
/// that type, or a function or operator that takes or gives it. Those are dangerous to mention. Functions and operators
/// that share the name of one of PostgreSQL's own are left out: those are meant nearly always.
///
/// Views, policies and constraints of domains are followed through `pg_depend`. PostgreSQL's own functions are pinned
/// and have no rows there, so those that need the primary are looked for in the stored trees, where a call is written
/// as `:funcid 1574`. A view may also lock rows (`FOR UPDATE`), which only its tree tells.
pub(super) fn hazards(primary: &[u32]) -> String {
    let pattern = format!(
        ":(funcid|opfuncid|aggfnoid|winfnoid) ({}) |:hasForUpdate true",
        if primary.is_empty() { "0".to_owned() } else { joined(primary, "|") }
    );
    format!(
        "{edges}, \
         reached (class, object) AS ( \
           SELECT 'pg_proc'::regclass::oid, oid FROM pg_proc \
            WHERE prokind <> 'p' AND oid >= {FIRST_USER_OID} AND provolatile = 'v' OR oid = ANY ('{oids}') \
           UNION \
           SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relpersistence = 'u' AND relkind IN ('r', 'p', 'S') \
           UNION \
           SELECT 'pg_class'::regclass, r.ev_class FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class \
            WHERE c.relkind = 'v' AND r.oid >= {FIRST_USER_OID} AND r.ev_action::text ~ '{pattern}' \
           UNION \
           SELECT 'pg_class'::regclass, polrelid FROM pg_policy WHERE polqual::text ~ '{pattern}' \
           UNION \
           SELECT 'pg_type'::regclass, contypid FROM pg_constraint WHERE contypid <> 0 AND conbin::text ~ '{pattern}' \
           UNION \
           SELECT e.class, e.object FROM reached r JOIN edge e ON (e.needed_class, e.needed) = (r.class, r.object)), \
         silent (oid) AS ( \
           SELECT c.casttarget FROM reached r JOIN pg_cast c ON r.class = 'pg_proc'::regclass AND c.castfunc = r.object \
            WHERE c.castcontext = 'i' AND c.oid >= {FIRST_USER_OID} \
           UNION \
           SELECT d.oid FROM silent s JOIN pg_type d ON s.oid IN (d.typbasetype, d.typelem)) \
         SELECT * FROM ( \
           SELECT CASE WHEN c.relpersistence = 'u' THEN 'u' ELSE 'v' END AS kind, c.relname AS name \
             FROM reached r JOIN pg_class c ON r.class = 'pg_class'::regclass AND c.oid = r.object \
           UNION ALL \
           SELECT 't', t.typname FROM reached r JOIN pg_type t ON r.class = 'pg_type'::regclass AND t.oid = r.object \
           UNION ALL \
           SELECT 'o', o.oprname \
             FROM reached r JOIN pg_operator o ON r.class = 'pg_operator'::regclass AND o.oid = r.object \
           UNION ALL \
           SELECT 'v', c.relname FROM pg_attribute a JOIN silent t ON t.oid = a.atttypid \
             JOIN pg_class c ON c.oid = a.attrelid WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') \
           UNION ALL \
           SELECT 't', p.proname FROM pg_proc p WHERE p.oid >= {FIRST_USER_OID} \
              AND EXISTS (SELECT FROM silent t WHERE t.oid = p.prorettype OR t.oid = ANY (p.proargtypes)) \
              AND NOT EXISTS (SELECT FROM pg_proc b WHERE b.proname = p.proname AND b.oid < {FIRST_USER_OID}) \
           UNION ALL \
           SELECT 'o', o.oprname FROM pg_operator o WHERE o.oid >= {FIRST_USER_OID} \
              AND EXISTS (SELECT FROM silent t WHERE t.oid IN (o.oprleft, o.oprright, o.oprresult)) \
              AND NOT EXISTS (SELECT FROM pg_operator b WHERE b.oprname = o.oprname AND b.oid < {FIRST_USER_OID}) \
           UNION ALL \
           SELECT 's', 'support' FROM reached r JOIN pg_amproc s ON r.class = 'pg_proc'::regclass \
              AND s.amproc = r.object JOIN pg_opfamily f ON f.oid = s.amprocfamily AND f.opfmethod IN (403, 405)) AS all_of_them \
         LIMIT {limit}",
        edges = edges(),
        oids = array(primary),
        limit = MOST_HAZARDS + 1
    )
}

/// Numbers as PostgreSQL reads an array.
fn array(oids: &[u32]) -> String {
    format!("{{{}}}", joined(oids, ","))
}

fn joined(oids: &[u32], separator: &str) -> String {
    oids.iter().map(u32::to_string).collect::<Vec<_>>().join(separator)
}
