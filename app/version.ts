/** Name and version of the tool, as in package.json. */
export const tool = 'vanderpool';
export const version = '0.1.0';
