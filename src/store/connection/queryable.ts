/** A Prisma client or a transaction of one: what a statement needs to run. */
export interface Queryable {
  $queryRaw<T>(strings: TemplateStringsArray, ...values: unknown[]): Promise<T>
  $executeRaw(strings: TemplateStringsArray, ...values: unknown[]): Promise<number>
}
