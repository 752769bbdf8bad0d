-- Invoices of a tenant's customers, with their lines. The cache's own tables have migrations of
-- their own, which run before this one.
create table invoices (
    tenant   text        not null check (tenant ~ '^[a-z0-9-]{1,64}$'),
    number   text        not null check (length(number) between 1 and 40),
    customer bigint      not null,
    status   text        not null default 'draft' check (status in ('draft', 'sent', 'paid')),
    due_at   timestamptz not null,
    version  bigint      not null default 1, -- raised by every change
    primary key (tenant, number)
);
create index invoices_by_customer on invoices (tenant, customer, status, number);

create table invoice_lines (
    tenant       text   not null,
    number       text   not null,
    position     bigint not null,
    text         text   not null,
    amount_cents bigint not null,
    primary key (tenant, number, position),
    foreign key (tenant, number) references invoices on delete cascade
);

-- The tags that a changed row makes stale. They are those of `src/invoices/mod.rs`.
select cache_track('invoices', tags => array['invoice:{tenant}:{number}', 'invoice-list:{tenant}:{customer}:{status}']);
select cache_track('invoice_lines', tags => array['invoice:{tenant}:{number}',
    'invoice-list:{tenant}:{invoices.customer}:{invoices.status}']);
