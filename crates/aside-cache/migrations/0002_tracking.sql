-- One declaration for a table. `cache_track` says which tags a changed row raises, and generates
-- the triggers that raise them for writers outside of the service (psql, migrations, other
-- programs):
--
--   select cache_track('products',
--       tags => array['product:{id}'],
--       lists => array['product-list#{id%16}', 'product-list:category:{category}'],
--       membership => array['discontinued_at'],
--       ignore => array['view_count']);
--   select cache_track('order_items', tags => array['order:{orders.tenant}:{order_id}']);
--
-- A tag is written as in `key.rs`, with columns in braces. `{id%16}` is the shard of a sharded tag.
-- `{orders.tenant}` is a column of the parent, which a foreign key names. A tag of which a column
-- is null is not raised.
--
-- Writes of the service raise the versions of their own changes, at the end of their transactions.
-- Their setting `aside.invalidates` keeps the triggers quiet, so rows are locked only briefly.

-- The declarations. Call `cache_track` again to change one.
create table cache_tracked (
    tracked    regclass primary key,
    -- Raised by every change of a row.
    tags       text[]   not null,
    -- Raised also when a row is inserted, deleted, or moved from one list to another. A row moves
    -- when a column changes that one of these tags or `membership` names. The tags of its old and
    -- of its new values are then raised.
    lists      text[]   not null,
    membership text[]   not null,
    -- Columns whose changes raise nothing.
    ignore     text[]   not null,
    -- The columns that identify the parent, if it has no foreign key or more than one.
    through    text[]   not null,
    parent     regclass,
    -- The generated trigger function.
    generated  text     not null
);

-- Declares the tags of a table, and generates its triggers. Another call replaces both.
create function cache_track(changed regclass, tags text[], lists text[] default '{}', membership text[] default '{}',
    ignore text[] default '{}', through text[] default '{}') returns void language plpgsql as $$
declare
    template text;
    named    text;
    base     text;
    gone     text;
    child    regclass;
begin
    lock table cache_tracked in share row exclusive mode;
    if not exists (select from pg_class where oid = changed and relkind in ('r', 'p')) then
        raise exception 'cache_track(%): only a table can be tracked', changed using errcode = 'wrong_object_type';
    end if;
    if coalesce(cardinality(tags || lists), 0) = 0 or array_position(tags || lists, null) is not null then
        raise exception 'cache_track(%): name at least one tag, and none that is null', changed using errcode = 'invalid_parameter_value';
    end if;
    foreach template in array tags || lists loop
        if template !~ '^[A-Za-z0-9._-]+(:([A-Za-z0-9._%-]+|[A-Za-z0-9._%-]*\{[^{}.%]+(\.[^{}.%]+)?\}[A-Za-z0-9._%-]*))*(#\{[^{}.%]+(\.[^{}.%]+)?%16\})?$' then
            raise exception 'cache_track(%): % is not a tag', changed, template using errcode = 'invalid_parameter_value',
                hint = 'A tag is a pattern with segments of at most one column each, such as order-list:{tenant}:{customer_id}, and may end in a shard, such as #{id%16}.';
        end if;
    end loop;
    foreach named in array membership || ignore || through loop
        if not exists (select from pg_attribute where attrelid = changed and attname = named and attnum > 0 and not attisdropped) then
            raise exception 'cache_track(%): the table has no column %', changed, named using errcode = 'undefined_column';
        end if;
    end loop;
    select case when nspname = current_schema() then relname else nspname || '.' || relname end into base
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace where pg_class.oid = changed;
    for gone in delete from cache_tracked where not exists (select from pg_class where oid = tracked) returning generated loop
        execute format('drop function if exists %I.%I()', current_schema(), gone);
    end loop;
    -- A name has at most 63 bytes. A table that was renamed keeps its function.
    if octet_length(base) > 49 or exists (select from cache_tracked where generated = 'cache_' || base || '_changed') then
        base := md5(base || changed::oid);
    end if;
    insert into cache_tracked as known
    values (changed, tags, lists, membership, ignore, through, null, 'cache_' || base || '_changed')
    on conflict (tracked) do update set (tags, lists, membership, ignore, through)
        = (excluded.tags, excluded.lists, excluded.membership, excluded.ignore, excluded.through);
    perform cache_generate_triggers(changed);
    for child in select tracked from cache_tracked where parent = changed and tracked <> changed loop
        perform cache_generate_triggers(child);
    end loop;
end $$;

-- Removes the declaration of a table, and its triggers. Its changes then raise nothing.
create function cache_untrack(changed regclass) returns void language plpgsql as $$
declare
    known   cache_tracked;
    trigger record;
    child   regclass;
begin
    delete from cache_tracked where tracked = changed returning * into known;
    if not found then
        raise exception 'cache_untrack(%): the table is not tracked', changed using errcode = 'undefined_object';
    end if;
    for trigger in
        select tgrelid::regclass as changed, tgname from pg_trigger
        where tgfoid = to_regprocedure(format('%I.%I()', current_schema(), known.generated)) and tgparentid = 0
    loop
        execute format('drop trigger %I on %s', trigger.tgname, trigger.changed);
    end loop;
    execute format('drop function %I.%I()', current_schema(), known.generated);
    for child in select tracked from cache_tracked where parent = changed loop
        perform cache_generate_triggers(child);
    end loop;
end $$;

-- The parent of a tracked table, with the columns of the child that identify it, and the columns of
-- the parent that these are equal to. No row if no tag names a column of a parent.
create function cache_parent(known cache_tracked, out parent regclass, out child_columns text[], out parent_columns text[])
    returns setof record language plpgsql stable as $$
declare
    named text[] := array(
        select distinct (regexp_match(hole[1], '^(.*)\.'))[1]
        from unnest(known.tags || known.lists) as template, regexp_matches(template, '\{([^}]*)\}', 'g') as hole
        where hole[1] like '%.%');
    found_keys integer := 0;
begin
    if cardinality(named) = 0 then
        return;
    end if;
    if cardinality(named) > 1 then
        raise exception 'cache_track(%): the tags name columns of several parents: %', known.tracked, array_to_string(named, ', ')
            using errcode = 'invalid_parameter_value';
    end if;
    for parent, child_columns, parent_columns in
        select confrelid, cache_column_names(conrelid, conkey), cache_column_names(confrelid, confkey)
        from pg_constraint join pg_class on pg_class.oid = confrelid
        where conrelid = known.tracked and contype = 'f' and relname = named[1]
            and (known.through = '{}' or known.through @> cache_column_names(conrelid, conkey) and known.through <@ cache_column_names(conrelid, conkey))
    loop
        found_keys := found_keys + 1;
    end loop;
    if found_keys > 1 then
        raise exception 'cache_track(%): the table has % foreign keys to %', known.tracked, found_keys, named[1]
            using errcode = 'ambiguous_parameter', hint = 'Name the columns of one of them: through => array[…].';
    end if;
    if found_keys = 0 and known.through <> '{}' then
        select pg_class.oid, known.through, cache_column_names(pg_class.oid, conkey) into parent, child_columns, parent_columns
        from pg_class join pg_constraint on conrelid = pg_class.oid and contype = 'p'
        where relname = named[1] and relnamespace = (select relnamespace from pg_class where oid = known.tracked)
            and cardinality(conkey) = cardinality(known.through);
    end if;
    if parent is null then
        raise exception 'cache_track(%): the table has no foreign key to %', known.tracked, named[1]
            using errcode = 'undefined_object', hint = 'Name the columns that hold the primary key of the parent: through => array[…]. The parent must be in the same schema.';
    end if;
    return next;
end $$;

-- The names of columns, in the order of their numbers in a constraint.
create function cache_column_names(relation oid, numbers smallint[]) returns text[] language sql stable
    return array(select attname::text from unnest(numbers) with ordinality as listed (number, place)
                 join pg_attribute on attrelid = relation and attnum = number order by place);

-- The expression of a column's value as a segment of a tag. Only a text may need to be escaped.
create function cache_segment_expression(changed regclass, relation regclass, row_alias text, hole text) returns text
    language plpgsql stable as $$
declare
    named text := regexp_replace(hole, '%16$', '');
    value text := format('%s.%I', row_alias, named);
    type  oid  := (select atttypid from pg_attribute where attrelid = relation and attname = named and attnum > 0 and not attisdropped);
    kind  "char";
begin
    if type is null then
        raise exception 'cache_track(%): % has no column %', changed, relation, named using errcode = 'undefined_column';
    end if;
    loop
        select typtype, case when typtype = 'd' then typbasetype else type end into kind, type from pg_type where oid = type;
        exit when kind <> 'd';
    end loop;
    if hole like '%\%16' then
        if type not in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then
            raise exception 'cache_track(%): column % of % is no integer, so {%} can not name a shard', changed, named, relation, hole
                using errcode = 'datatype_mismatch';
        end if;
        -- Unlike `mod`, it is the same as `rem_euclid` for negative numbers.
        return format('(%s & 15)::text', value);
    elsif type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype, 'bool'::regtype) then
        return value || '::text';
    elsif type in ('text'::regtype, 'varchar'::regtype) or kind = 'e' then
        return format('case when %1$s::text ~ ''^[A-Za-z0-9._-]*$'' then %1$s::text else cache_segment(%1$s::text) end', value);
    end if;
    raise exception 'cache_track(%): column % of % has the type %, which can not be a segment of a tag', changed, named, relation, format_type(type, null)
        using errcode = 'datatype_mismatch', hint = 'Segments are integers, uuid, boolean, text, varchar and enums.';
end $$;

-- The expression of a tag, for the columns of `entry` (the changed row) and `parent`.
--
-- A parent that is gone no longer has the columns of the tag. Its own triggers have raised the tag,
-- if it is declared there. Otherwise the expression is the wildcard of the tag's pattern. Children
-- that are deleted together with their parent are such a case.
create function cache_tag_expression(known cache_tracked, template text) returns text language plpgsql stable as $$
declare
    up        record;
    part      text[];
    hole      text[];
    tag       text := '';
    of_parent text := '';
begin
    select * into up from cache_parent(known);
    for part in select regexp_matches(template, '([^{]+)|\{([^}]*)\}', 'g') loop
        if part[1] is not null then
            tag := tag || ' || ' || quote_literal(part[1]);
            of_parent := of_parent || part[1];
            continue;
        end if;
        hole := regexp_match(part[2], '^(?:([^.]*)\.)?([^%]*)(.*)$');
        if hole[1] is null then
            tag := tag || ' || ' || cache_segment_expression(known.tracked, known.tracked, 'entry', part[2]);
            of_parent := of_parent || '{' || coalesce(up.parent_columns[array_position(up.child_columns, hole[2])], '?') || hole[3] || '}';
        else
            tag := tag || ' || ' || cache_segment_expression(known.tracked, up.parent, 'parent', hole[2] || hole[3]);
            of_parent := of_parent || '{' || hole[2] || hole[3] || '}';
        end if;
    end loop;
    tag := substring(tag from 5);
    if template ~ '\{[^}]*\.' and not exists (
        select from cache_tracked where tracked = up.parent and of_parent = any (tags || lists))
    then
        tag := format('case when num_nulls(%s) = 0 and parent.%I is null then %L else %s end',
            (select string_agg(format('entry.%I', child_column), ', ') from unnest(up.child_columns) as child_column),
            up.parent_columns[1], cache_pattern(template), tag);
    end if;
    return tag;
end $$;

-- The wildcard of a tag's pattern.
create function cache_pattern(template text) returns text language sql immutable
    return substring(template from '^[^:#{]*') || ':*';

-- The columns of a select. There is at least one, although tags may name none.
create function cache_column_list(prefix text, named text[]) returns text language sql immutable
    return coalesce((select string_agg(prefix || format('%I', name), ', ') from unnest(named) as name), 'true as one');

-- Generates the trigger function of a tracked table and its triggers, on the table and on its
-- partitions. It also restores triggers that were disabled or dropped. Call it after a partition
-- was attached, because statements may name the partition itself.
create function cache_generate_triggers(changed regclass) returns void language plpgsql as $$
declare
    known    cache_tracked;
    up       record;
    key      text[];
    own      text[];
    moving   text[];
    tags     text;
    every    text;
    patterns text;
    joined   text := '';
    unequal  text := '';
    body     text;
    of_one   text;
    of_two   text;
    of_row   text;
    member   record;
begin
    select * into known from cache_tracked where tracked = changed;
    if not found then
        raise exception 'cache_generate_triggers(%): the table is not tracked', changed using errcode = 'undefined_object';
    end if;
    select * into up from cache_parent(known);
    update cache_tracked set parent = up.parent where tracked = changed;
    select cache_column_names(changed, conkey) into key from pg_constraint where conrelid = changed and contype = 'p';
    if key is null and (known.lists <> '{}' or known.ignore <> '{}') then
        raise exception 'cache_track(%): without a primary key, the old and the new values of a row can not be compared', changed
            using errcode = 'object_not_in_prerequisite_state', hint = 'Add a primary key, or declare neither lists nor ignore.';
    end if;

    -- The columns of the table that tags need, and those that move a row.
    with holes as (
        select template, regexp_replace(part[1], '%16$', '') as hole
        from unnest(known.tags || known.lists) as template, regexp_matches(template, '\{([^}]*)\}', 'g') as part
    ), needed as (
        select template, hole from holes where hole not like '%.%'
        union select template, unnest(up.child_columns) from holes where hole like '%.%'
    )
    select coalesce(array_agg(distinct hole), '{}'), coalesce(array_agg(distinct hole) filter (where template = any (known.lists)), '{}')
        into own, moving from needed;
    moving := array(select distinct hole from unnest(moving || known.membership) as hole where hole <> all (key) order by hole);
    if known.ignore && (own || known.membership) then
        raise exception 'cache_track(%): a column that tags or membership name can not be ignored', changed using errcode = 'invalid_parameter_value';
    end if;

    -- The expressions of the tags.
    select string_agg(expression, ', ' order by place) filter (where place <= cardinality(known.tags)), string_agg(expression, ', ' order by place),
            string_agg(distinct quote_literal(cache_pattern(template)), ', ')
        into tags, every, patterns
        from unnest(known.tags || known.lists) with ordinality as listed (template, place), cache_tag_expression(known, template) as expression;
    if up.parent is not null then
        select format('left join %s as parent on %s', up.parent, string_agg(format('parent.%I = entry.%I', parent_column, child_column), ' and '))
            into joined from unnest(up.child_columns, up.parent_columns) as pairs (child_column, parent_column);
    end if;

    -- The changed rows of one transition table. Rows are counted by their tags. The first thousand
    -- are enough, because the next one raises the wildcards of all patterns.
    of_one := format(
        $sql$select few.*, row_number() over () as cache_row, true as cache_moved from (select %s %s from %%s as changed limit 1001) as few$sql$,
        case when own @> key then '' else 'distinct' end, cache_column_list('', own));
    -- The old and the new values of the changed rows, and whether the row has moved.
    if known.lists = '{}' and known.ignore = '{}' then
        of_two := format('select * from (%s) as gone union all select * from (%s) as made', format(of_one, 'old_rows'), format(of_one, 'new_rows'));
    else
        if known.ignore <> '{}' then
            select format(' and (%s or to_jsonb(before) - %L::text[] is distinct from to_jsonb(after) - %2$L::text[])',
                    string_agg(format('(before).%I is not distinct from (after).%1$I', ignored), ' and '), known.ignore)
                into unequal from unnest(known.ignore) as ignored;
        end if;
        of_two := format(
            $sql$select side.*, cache_row, cache_moved from (
                    select before, after, row_number() over () as cache_row, (before).%1$I is null or (after).%1$I is null%2$s as cache_moved from (
                        select before, after from old_rows as before full join new_rows as after using (%3$s)
                        where (before *<> after) is not false%4$s limit 1001
                    ) as few
                ) as pairs cross join lateral (select %5$s union all select %6$s) as side$sql$,
            key[1], (select string_agg(format(' or (before).%I is distinct from (after).%1$I', hole), '') from unnest(moving) as hole),
            cache_column_list('', key), unequal, cache_column_list('(before).', own), cache_column_list('(after).', own));
        unequal := ' where tg_op <> ''UPDATE'' or (old *<> new)'
            || replace(replace(replace(replace(unequal, '(before).', 'old.'), '(after).', 'new.'), '(before)', '(old)'), '(after)', '(new)');
    end if;
    -- The same for one row that is replicated. The variables also have columns that were added
    -- since the session began.
    of_row := format(
        $sql$select side.*, 1 as cache_row, tg_op <> 'UPDATE'%s as cache_moved from (
                    select %s where tg_op <> 'INSERT' union all select %s where tg_op <> 'DELETE'
                ) as side%s$sql$,
        (select string_agg(format(' or old.%I is distinct from new.%1$I', hole), '') from unnest(key || moving) as hole),
        cache_column_list('old.', own), cache_column_list('new.', own), unequal);
    body := format(
        $sql$raised := array(
                    select tag from (%%s) as entry %s
                    cross join unnest(case when cache_row > 1000 then array[%s] when cache_moved then array[%s] else array[%s]::text[] end) as tag
                    where tag is not null);$sql$,
        replace(joined, '%', '%%'), replace(patterns, '%', '%%'), replace(every, '%', '%%'), replace(coalesce(tags, ''), '%', '%%'));

    execute format($sql$
        create or replace function %1$I.%2$I() returns trigger language plpgsql security definer set search_path = %1$I, pg_temp as $function$
        declare
            raised     text[] := array[%3$s];
            replicated integer;
        begin
            if current_setting('aside.invalidates', true) = 'on' then
                return null;
            end if;
            if tg_level = 'ROW' then
                replicated := coalesce(nullif(current_setting('aside.replicated_' || tg_relid, true), ''), '0');
                if replicated > 1000 then
                    return null;
                end if;
                %4$s
                if cardinality(raised) > 0 then
                    perform set_config('aside.replicated_' || tg_relid, (replicated + 1)::text, true);
                    if replicated = 1000 then
                        raised := array[%3$s];
                    end if;
                end if;
            elsif tg_op = 'INSERT' then
                %5$s
            elsif tg_op = 'DELETE' then
                %6$s
            elsif tg_op = 'UPDATE' then
                %7$s
            end if;
            if cardinality(raised) > 0 then
                perform cache_raise(raised);
            end if;
            return null;
        end $function$ $sql$,
        current_schema(), known.generated, patterns, format(body, of_row), format(body, format(of_one, 'new_rows')),
        format(body, format(of_one, 'old_rows')), format(body, of_two));

    -- A statement fires the triggers of the table that it names.
    for member in
        with recursive members as (
            select changed::oid as relation
            union select inhrelid from pg_inherits join members on inhparent = relation
        )
        select relation::regclass, relation = changed or not relispartition as is_own from members join pg_class on oid = relation
        where relkind in ('r', 'p') and (relation = changed or relation not in (select tracked from cache_tracked))
    loop
        -- Sessions that restore (`session_replication_role = replica`) fire only triggers that are
        -- enabled for them. Each instance checks every minute that all are (`triggers.rs`).
        execute format($sql$
            create or replace trigger invalidates_inserted after insert on %1$s referencing new table as new_rows for each statement execute function %2$I.%3$I();
            create or replace trigger invalidates_updated after update on %1$s referencing old table as old_rows new table as new_rows for each statement execute function %2$I.%3$I();
            create or replace trigger invalidates_deleted after delete on %1$s referencing old table as old_rows for each statement execute function %2$I.%3$I();
            create or replace trigger invalidates_truncated after truncate on %1$s for each statement execute function %2$I.%3$I();
            alter table %1$s enable always trigger invalidates_inserted, enable always trigger invalidates_updated,
                enable always trigger invalidates_deleted, enable always trigger invalidates_truncated;
            $sql$, member.relation, current_schema(), known.generated);
        -- Logical replication fires only triggers of rows. Partitions inherit them.
        if member.is_own then
            execute format($sql$
                create or replace trigger invalidates_replicated after insert or update or delete on %1$s for each row execute function %2$I.%3$I();
                alter table %1$s enable replica trigger invalidates_replicated;
                $sql$, member.relation, current_schema(), known.generated);
        end if;
    end loop;
end $$;

select cache_fix_search_paths();
